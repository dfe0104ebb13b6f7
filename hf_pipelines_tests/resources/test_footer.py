"""Footer: the kind of an asset is what its footers say; those written before they said it stay readable."""

import dataclasses
import json
import os
from datetime import UTC, datetime

import polars as pl
import pytest

from hf_pipelines.resources.footer import Footer, Stamp, kind_by_name
from hf_pipelines.resources.partition_codec import Content, encode
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.retention import Policy
from hf_pipelines_tests.resources.retaining import pruned

STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")
DAY = "2020-01-06"


class FooterBefore(Footer):
    """A footer as it was written before it had a kind."""

    def to_json(self) -> str:
        fields = json.loads(super().to_json())
        del fields["kind"]
        return json.dumps(fields, sort_keys=True)


def issue(weight: float) -> Content:
    keys = {"symbol": ["AAA"], "ts": [datetime(2020, 1, 6, 21, tzinfo=UTC)]}
    return Content(pl.DataFrame({**keys, "weight": [weight], "prediction": [0.1]}))


def put_as_before(store: PartitionStore, asset: str, content: Content) -> Footer:
    """Store a content under a footer without a kind; what is published today has the same hash."""
    store.publish(asset, DAY, content, STAMP)
    stored = store.read(asset, DAY)
    before = FooterBefore(**{each.name: getattr(stored.footer, each.name) for each in dataclasses.fields(Footer)})
    payload = encode(stored.frame, before)
    assert b'"kind"' not in payload
    store.objects.put(store.key(asset, DAY), payload)
    return stored.footer


@pytest.mark.parametrize(
    ("asset", "kind"),
    [
        ("us_tech/bars", "bars"),
        ("us_tech/fundamentals", "fundamentals"),
        ("us_tech/features/technical", "features"),
        ("tech/fitted_model", "fitted_model"),
        ("tech/signals", "signals"),
    ],
)
def test_partition_stored_before_footers_had_a_kind_is_read_by_the_kind_of_its_name(store, asset, kind):
    now = put_as_before(store, asset, issue(0.5))
    assert store.read(asset, DAY).footer == store.peek(store.key(asset, DAY), asset=asset, partition=DAY) == now
    assert store.read(asset, DAY).footer.kind == store.kind(asset) == kind
    # The same content is none that has changed.
    assert store.publish(asset, DAY, issue(0.5), STAMP).outcome == "unchanged"


def test_issue_stored_before_footers_had_a_kind_is_still_never_written_again(store):
    put_as_before(store, "tech/signals", issue(0.5))
    assert store.publish("tech/signals", DAY, issue(0.25), STAMP).outcome == "shadow"
    assert store.read("tech/signals", DAY).frame["weight"].to_list() == [0.5]


def test_issues_under_another_name_are_kept_as_issues_by_what_their_footer_says(store):
    published = [store.publish("tech/orders", DAY, issue(weight), STAMP, kind="signals") for weight in (0.5, 0.25)]
    assert [each.outcome for each in published] == ["new", "shadow"]
    assert store.kind("tech/orders") == "signals"
    with pytest.raises(ValueError, match="what was issued stays as it was issued"):
        store.restore("tech/orders", DAY, published[1].footer.content_hash)
    os.utime(published[1].address, (0, 0))
    policy, now = Policy(days=1, versions=0), datetime(2026, 1, 1, tzinfo=UTC)
    assert pruned(store, policy, now) == []
    # Nor where the issue itself has gone: its version says what it is.
    store.objects.delete(store.key("tech/orders", DAY))
    assert store.kind("tech/orders") == "signals"
    assert pruned(store, policy, now) == []


def test_asset_that_is_only_named_like_issues_is_written_again_and_restored(store):
    published = [store.publish("tech/signals", DAY, issue(each), STAMP, kind="features") for each in (0.5, 0.25)]
    assert [each.outcome for each in published] == ["new", "changed"]
    assert store.restore("tech/signals", DAY, published[0].footer.content_hash).kind == "features"
    assert store.read("tech/signals", DAY).frame["weight"].to_list() == [0.5]


def test_kind_by_name_is_the_part_behind_the_owner():
    assert [kind_by_name(each) for each in ("a/b", "a/features/c", "alone")] == ["b", "features", ""]
