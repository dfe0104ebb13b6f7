"""Currency: is a stored partition what would be computed now?

Lives here: `is_current`, the one answer to that question, from the hashes in the footers. Does not live here: Dagster's
data versions (a courtesy: a range stamps one on all its partitions), and what to do about it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError


@dataclass(frozen=True)
class Currency:
    """Whether a partition is current, and if not why.

    Attributes
    ----------
    is_current : bool
    reason : str
        Empty if current, but for an issue: in what it differs from what would be issued now.
    """

    is_current: bool
    reason: str = ""


@dataclass
class CurrencyChecker:
    """Compares the inputs in the footers with what is stored now; each partition is looked at once.

    Parameters
    ----------
    store : PartitionStore
    code_versions : mapping of asset path to code version
        As the definitions say now.
    manifests : mapping of asset path to function
        For assets fed from outside: partition key to {file name: sha256} as the source shows it now; what else of the market's
        YAML single partitions hang on is listed like files.
    issues : collection of asset paths
        Assets whose partitions are written once: what is there stays right, whatever has changed since.
    """

    store: PartitionStore
    code_versions: Mapping[str, str]
    manifests: Mapping[str, Callable[[str], Mapping[str, str]]] = field(default_factory=dict)
    issues: Collection[str] = ()
    _footers: dict[tuple[str, str], Footer | None] = field(default_factory=dict)
    _known: dict[tuple[str, str], Currency] = field(default_factory=dict)

    def is_current(self, asset: str, partition: str) -> Currency:
        """Compare one partition with its code, its inputs, and theirs.

        Parameters
        ----------
        asset : str
            Asset path, such as `us_tech/bars`.
        partition : str
            Partition key.
        """
        key = (asset, partition)
        if key not in self._known:
            self._known[key] = self._judge(asset, partition)
        return self._known[key]

    def footer(self, asset: str, partition: str) -> Footer | None:
        key = (asset, partition)
        if key not in self._footers:
            self._footers[key] = self.store.footer(asset, partition)
        return self._footers[key]

    def _judge(self, asset: str, partition: str) -> Currency:
        try:
            footer = self.footer(asset, partition)
        except StoredPartitionError as e:
            return Currency(False, str(e))
        if footer is None:
            return Currency(False, "never published")
        found = self._compare(asset, partition, footer)
        if asset in self.issues and not found.is_current:
            return Currency(True, f"issued by what was there then, not rewritten: {found.reason}")
        return found

    def _compare(self, asset: str, partition: str, footer: Footer) -> Currency:
        for guard, verdict in footer.verdicts.items():
            if not verdict.passed:
                return Currency(False, f"rejected by {guard}: {'; '.join(verdict.findings[:1])}")
        expected = self.code_versions.get(asset)
        if expected is not None and footer.code_version != expected:
            return Currency(False, f"made by code and settings {footer.code_version[:12]}, now {expected[:12]}")
        if asset in self.manifests:
            listed = _judge_manifest(footer, self.manifests[asset](partition))
            if not listed.is_current:
                return listed
        for upstream, hashes in footer.inputs.items():
            for name, recorded in hashes.items():
                found = self._judge_input(upstream, name, recorded)
                if not found.is_current:
                    return found
        return Currency(True)

    def _judge_input(self, asset: str, name: str, recorded: str) -> Currency:
        partition, _, session = name.partition("#")
        try:
            footer = self.footer(asset, partition)
        except StoredPartitionError as e:
            return Currency(False, f"input {asset} {partition} is damaged: {e}")
        if footer is None:
            return Currency(False, f"input {asset} {partition} is gone")
        now = footer.session_hashes.get(session) if session else footer.content_hash
        if now != recorded:
            return Currency(False, f"input {asset} {name} was {recorded[:12]}, is now {(now or 'absent')[:12]}")
        upstream = self.is_current(asset, partition)
        if not upstream.is_current and not session:
            return Currency(False, f"input {asset} {partition} is out of date: {upstream.reason}")
        return Currency(True)


def _judge_manifest(footer: Footer, manifest: Mapping[str, str]) -> Currency:
    names = {*footer.sources, *manifest}
    changed = sorted(name for name in names if footer.sources.get(name) != manifest.get(name))
    if changed:
        return Currency(False, f"source files added, changed or gone: {some_of(changed)}")
    return Currency(True)
