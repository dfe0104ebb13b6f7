"""Strategy sensor: from new features of the market to a model of the week and signals of the day.

Lives here: the sensor of a strategy. Does not live here: bars and features (`arrivals`), the Sunday schedule
(`retraining`), how a model or a signal is made (`strategy_stages`).

Dagster concept: sensor on data time. Which week is the newest is read from the bars, never from the wall clock: a
missed Sunday, late data and a replayed sample make no difference. A week that has begun by the data and has no model,
or a model made from inputs that changed since, is requested once for each state of its inputs; earlier weeks are not requested,
except the model in use of a week that still has sessions to be issued.

A signal is issued by the model that follows from the stored bars. While something between those bars and the model is out of
date and about to be made again, the signals of its week wait; what has failed, or does not come within `PATIENCE`, is not waited
for.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from typing import Any

import dagster as dg

from hf_pipelines.components.automation.alarms import refit_by_alarm
from hf_pipelines.components.automation.run_intents import (
    RequestState,
    RunHistory,
    RunIntent,
    digest,
)
from hf_pipelines.components.automation.ticks import Tick, read_cursor, recall
from hf_pipelines.components.automation.unjudged import judge_what_was_missed
from hf_pipelines.components.market_stages.feature_inputs import bars_read
from hf_pipelines.components.strategy_stages import CHAMPION_MODEL, StrategyPlan, retrained
from hf_pipelines.components.strategy_stages.serving import fitted_with, held_by
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.partitions import parse_key, shift_week
from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.dagster_internals import UnresolvedAssetJobDefinition
from hf_pipelines.resources.issues import lost_issue, point_to_latest
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import PromotionHistoryError
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines.resources.trial_ledger import configuration_hash

# The Sunday schedule requests its run at 02:00; ten minutes later that run is visible.
AFTER_SCHEDULE = timedelta(hours=2, minutes=10)

# How long after a change of the bars to wait for their features. Retries after failures end within 31 minutes; if the arrivals
# sensor is stopped, signals are better issued by the existing model.
PATIENCE = timedelta(hours=1)

# What the job of a session makes, in order.
ISSUED = ("signals", "drift")

# A fresh cursor starts with the signals of these weeks; older ones are left to a backfill.
FRESH_WEEKS = 2


def signals_job(plan: StrategyPlan) -> UnresolvedAssetJobDefinition:
    """Job `<strategy>_issue`: signals of sessions."""
    return dg.define_asset_job(
        name=f"{plan.name}_issue",
        selection=dg.AssetSelection.assets(*(dg.AssetKey([plan.name, stage]) for stage in ISSUED)),
        description=f"Issue the signals of {plan.name}, once a session, and judge drift.",
    )


def following_sensor(
    plan: StrategyPlan, retrain: UnresolvedAssetJobDefinition, issue: UnresolvedAssetJobDefinition
) -> dg.SensorDefinition:
    """Request the model of the newest week, then the signals of sessions that have features and no issue."""

    @dg.sensor(
        name=f"{plan.name}_follows",
        jobs=[retrain, issue],
        minimum_interval_seconds=settings.tick_seconds(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Follows {plan.market.name}: the model of the newest week when it is missing or its inputs changed, then the "
            "signals of sessions that have features and no issue. Earlier weeks without a model are left to a backfill."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, storage: Storage, clock: Clock) -> dg.SensorResult:
        now = clock.now()
        found = StrategySensor(plan, storage.store(), RunHistory(context.instance, now), now).tick(recall(context))
        return found.result(context, idle="nothing new to follow")

    return sensor


def newest_week(plan: StrategyPlan, store: PartitionStore, weeks: Iterable[str] | None = None) -> str | None:
    """Week that has begun according to the stored bars (of `weeks`); None without bars or after the market's end."""
    asset = plan.market.bars_asset
    # Only known gaps hold no session: mostly the first footer decides.
    stored = sorted(store.partitions(asset) if weeks is None else weeks, reverse=True)
    footers = (store.footer(asset, week) for week in stored)
    last = next((max(footer.session_hashes) for footer in footers if footer and footer.session_hashes), None)
    return None if last is None else plan.market.partitions.newest_week(parse_key(last))


Tags = Mapping[str, Mapping[str, str]]


def input_tags(plan: StrategyPlan, store: PartitionStore) -> Tags:
    """Tag of every week of each asset that a model is made from."""
    return {asset: store.tags(asset) for asset in (plan.market.bars_asset, *_feature_assets(plan))}


def retrain_intent(plan: StrategyPlan, tags: Tags, week: str, because: str = "") -> RunIntent:
    """Retraining a strategy for a week, from the features and bars with these `input_tags`."""
    partitions, bars_asset = plan.market.partitions, plan.market.bars_asset
    # Labels may look back: on more weeks of bars than the rows are of.
    first = {asset: -plan.training.weeks - plan.history_weeks * (asset == bars_asset) for asset in tags}
    weeks = {
        asset: plan.selection_weeks(partitions.weeks_around(week, first=each, last=-1)) for asset, each in first.items()
    }
    return RunIntent(
        job=f"{plan.name}_retrain",
        assets=tuple(plan.asset(stage) for stage in retrained(plan)),
        partitions=(week,),
        state=digest({asset: {each: of_asset.get(each) for each in weeks[asset]} for asset, of_asset in tags.items()}),
        because=because or f"week {week} has begun",
    )


def _feature_assets(plan: StrategyPlan) -> list[str]:
    return [plan.market.features_asset(group) for group in plan.feature_names]


@dataclass
class StrategySensor:
    """One tick over the store of a strategy and its market."""

    plan: StrategyPlan
    store: PartitionStore
    history: RunHistory
    now: datetime

    def tick(self, cursor: str | None) -> Tick:
        """Compare, request, remember.

        The cursor holds `model`: digest of the newest week and of all that its model is made from, when it was last
        found to need nothing; `weeks`: week to digest of the features and models its signals were last compared with.
        """
        known = read_cursor(cursor)
        model, weeks = known.get("model", ""), known.get("weeks")
        market = self.plan.market
        if (run_id := self.history.under_way(market.update_job)) is not None:
            return _tick([], model, weeks, f"waits for run {run_id[:8]} of {market.update_job}")
        notes: list[str] = []
        retraining: list[dg.RunRequest] = []
        awaited: str | None = None
        newest = newest_week(self.plan, self.store, self._input_tags[market.bars_asset])
        if newest is not None and (state := self._model_state(newest)) != model:
            for week in self._weeks_in_use(newest):
                request_state, retraining, note = self._request_model(week)
                notes.append(note)
                if request_state is not RequestState.SETTLED:
                    awaited = week
                    break
            else:
                model = state
        by_alarm = ""
        if newest is not None and awaited is None:
            retraining, by_alarm = self._request_by_alarm(newest)
        # Signals from the week of an awaited model on wait for it; those before are issued beside its training.
        issuing, weeks, note = self._request_signals(weeks, before=awaited)
        requests, missed = [*issuing, *retraining], ""
        if not requests:
            requests, missed = judge_what_was_missed(
                self.plan, self.store, self.history, self._issue_tags, self._feature_tags
            )
        return _tick(requests, model, weeks, *notes, by_alarm, note, missed, self._mend_latest())

    def _request_by_alarm(self, week: str) -> tuple[list[dg.RunRequest], str]:
        """A refit of the week under way that an alarm of drift asks for, and a note."""
        intent = partial(retrain_intent, self.plan, self._input_tags, week)
        requests, note = refit_by_alarm(self.plan, self.store, self.history, self.now, intent)
        if requests and (found := self._not_ready(week)) is not None:
            return [], f"{note} waits: {found[1]}"
        return requests, note

    def _mend_latest(self) -> str:
        """Write `latest.json` again if it is gone or does not name the newest issue; returns a note."""
        asset, days = self.plan.asset("signals"), self.plan.market.partitions.closed_days(self.now)
        if point_to_latest(self.store, asset, days, self.now):
            return f"latest.json of {asset} was written again: it did not name the newest issue"
        lost = lost_issue(self.store, asset, days)
        return f"the issue of {asset} {lost} is gone: put it back from a backup" if lost else ""

    @cached_property
    def _input_tags(self) -> Tags:
        return input_tags(self.plan, self.store)

    @cached_property
    def _feature_tags(self) -> Tags:
        return {asset: self._input_tags[asset] for asset in _feature_assets(self.plan)}

    @cached_property
    def _champion(self) -> Mapping[str, Any] | None:
        """Settings of the champion where it is another configuration than that of the YAML.

        A history that is damaged names none here: the run that issues says what is wrong with it.
        """
        try:
            champion = held_by(self.plan, self.store, None).serving.champion
        except PromotionHistoryError:
            return None
        is_own = champion is None or champion.configuration == configuration_hash(settings_of(self.plan))
        return None if champion is None or is_own else champion.settings

    @cached_property
    def _champion_features(self) -> list[str]:
        """Assets of features that the champion reads, and the YAML's configuration does not."""
        market, groups = self.plan.market, (self._champion or {}).get("features", {})
        # Of a group that the market has no more the run says that the champion cannot be made.
        found = [market.features_asset(group) for group in groups if group in market.feature_groups]
        return [each for each in found if each not in self._feature_tags]

    @cached_property
    def _model_tags(self) -> dict[str, str]:
        return self.store.tags(self.plan.asset("fitted_model"))

    @cached_property
    def _issue_tags(self) -> dict[str, str]:
        return self.store.tags(self.plan.asset("signals"))

    @cached_property
    def _checker(self) -> CurrencyChecker:
        """Compares inputs only: a new release of the code does not retrain models in use."""
        return CurrencyChecker(self.store, {})

    def _model_state(self, week: str) -> str:
        intent = retrain_intent(self.plan, self._input_tags, week)
        before = self.plan.market.partitions.week_before(week)
        models = [self._model_tags.get(each) for each in (before, week)]
        # One week more than the window of the newest week: the model of the week before may still be needed.
        oldest = shift_week(before, -self.plan.training.weeks)
        oldest_tags = [tags.get(oldest) for tags in self._feature_tags.values()]
        return digest(week, intent.state, oldest_tags, models, self._is_early(week))

    def _weeks_in_use(self, newest: str) -> list[str]:
        """The newest week, and the one before while sessions of it are to be issued by a model that it has."""
        before = self.plan.market.partitions.week_before(newest)
        judged = (self._checker.is_current(asset, before) for asset in self._feature_tags)
        if before not in self._model_tags or not all(each.is_current for each in judged):
            return [newest]
        sessions = {day.isoformat() for day in self.plan.market.partitions.closed_sessions(before, self.now)}
        issued = set(self._issue_tags)
        return [before, newest] if sessions & self._featured(before) - issued else [newest]

    def _is_early(self, week: str) -> bool:
        return self.now < self.plan.market.partitions.week_begin(week) + AFTER_SCHEDULE

    def _request_model(self, week: str) -> tuple[RequestState, list[dg.RunRequest], str]:
        """State of the model of a week, its request and a note; SETTLED if there is nothing to request."""
        asset = self.plan.asset("fitted_model")
        if self._is_early(week):
            return RequestState.SETTLED, [], f"week {week} has not begun"
        if week in self._model_tags and self._checker.is_current(asset, week).is_current:
            if (awaited := self._awaited(week)) is not None:
                what, making = awaited
                return RequestState.UNDER_WAY, [], f"signals wait for {what} of week {week}: run {making[:8]}"
            return RequestState.SETTLED, [], f"{asset} {week} is current"
        if (found := self._not_ready(week)) is not None:
            request_state, reason = found
            return request_state, [], f"no model of week {week} yet: {reason}"
        because = f"the inputs of the model of week {week} changed" if week in self._model_tags else ""
        intent = retrain_intent(self.plan, self._input_tags, week, because)
        # A state of the inputs is requested once, whether its run failed or succeeded.
        request_state, attempt = self.history.state_of(intent)
        if request_state is RequestState.DUE and (run_id := self.history.under_way(intent.job)) is not None:
            return RequestState.UNDER_WAY, [], f"waits for run {run_id[:8]} of {intent.job}"
        requests = [intent.request(attempt)] if request_state is RequestState.DUE else []
        if request_state is RequestState.SETTLED:
            return (
                request_state,
                [],
                f"no model of week {week} from what is stored now: its run failed; see it, or retrain it",
            )
        return request_state, requests, f"model of week {week} is {request_state.value}"

    def _awaited(self, week: str) -> tuple[str, str] | None:
        """What a run is about to make without which a refit may not serve, and the run; None if there is nothing."""
        run_id = self.history.under_way(f"{self.plan.name}_retrain")
        if run_id is None or self.plan.gates is None:
            return None
        if self.plan.gates.get("controls") and self.store.footer(self.plan.asset("validation"), week) is None:
            return "the controls", run_id
        # The YAML's model is made before that of the champion; an issue is never made again.
        is_beside = self._champion is not None and fitted_with(self._champion) != fitted_with(settings_of(self.plan))
        if is_beside and self.store.footer(self.plan.asset(CHAMPION_MODEL), week) is None:
            return "the champion's refit", run_id
        return None

    def _not_ready(self, week: str) -> tuple[RequestState, str] | None:
        """Why a model of a week cannot be trained now; UNDER_WAY if what it lacks is about to be made."""
        plan = self.plan
        if parse_key(week) < plan.first_week:
            return RequestState.SETTLED, f"`start` of {plan.name} is {plan.first_week}"
        window = plan.market.partitions.weeks_around(week, first=-plan.training.weeks, last=-1)
        if len(window) < plan.training.weeks:
            return RequestState.SETTLED, f"its {plan.training.weeks} weeks of training begin before the market"
        if not (seen := plan.selection_weeks(window)):
            return RequestState.SETTLED, f"its {plan.training.weeks} weeks of training are held out"
        trading = plan.market.partitions.trading_weeks(seen)
        lacking = {}
        for group in plan.feature_names:
            asset = plan.market.features_asset(group)
            if missing := [each for each in trading if each not in self._feature_tags[asset]]:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                lacking[group, missing[0]] = f"{asset} has no {missing[0]}{more}"
            for each in trading:
                if each not in missing and not (found := self._checker.is_current(asset, each)).is_current:
                    lacking[group, each] = f"{asset} {each} is out of date: {found.reason}"
        if not lacking:
            return None
        # One input that will not be made prevents the model: waiting for the others is useless.
        abandoned = next((reason for each, reason in lacking.items() if not self._is_to_come(*each)), None)
        if abandoned is not None:
            return RequestState.SETTLED, abandoned
        return RequestState.UNDER_WAY, f"signals wait for it: {next(iter(lacking.values()))}"

    def _is_to_come(self, group: str, week: str) -> bool:
        """Whether features of a week are about to be made from bars that changed."""
        market = self.plan.market
        asset, changed = market.features_asset(group), self._inputs_changed(group, week)
        return (
            market.has_sensor
            and changed is not None
            and changed + PATIENCE > self.now
            and not self.history.gave_up(market.update_job, asset, week, since=changed)
        )

    def _inputs_changed(self, group: str, week: str) -> datetime | None:
        """When the newest of what features of a week are made from was stored; None where something of it is not there."""
        market = self.plan.market
        try:
            made = self._checker.footer(market.features_asset(group), week)
            read = made.inputs if made else {market.bars_asset: dict.fromkeys(bars_read(market, group, week), "")}
            footers = [self._checker.footer(asset, key) for asset, keys in read.items() for key in keys]
        except StoredPartitionError:
            return None
        stored = [datetime.fromisoformat(each.created_at) for each in footers if each is not None]
        return max(stored, default=None) if len(stored) == len(footers) else None

    def _request_signals(
        self, handled: Mapping[str, str] | None, *, before: str | None
    ) -> tuple[list[dg.RunRequest], Mapping[str, str] | None, str]:
        """Request signals of sessions that have features and no issue, in weeks (before `before`) whose features or models changed."""
        if handled is None and before is not None:
            # A fresh cursor chooses its weeks when their models are there.
            return [], None, ""
        states = {week: state for week, state in self._signal_states().items() if before is None or week < before}
        if handled is None:
            handled = {week: state for week, state in states.items() if week not in sorted(states)[-FRESH_WEEKS:]}
        seen = {week: state for week, state in states.items() if handled.get(week) == state}
        days, remaining = self._unissued([week for week in states if week not in seen])
        if not days:
            return [], {**seen, **{week: states[week] for week in states if week not in remaining}}, ""
        intent = RunIntent(
            job=f"{self.plan.name}_issue",
            assets=tuple(map(self.plan.asset, ISSUED)),
            partitions=tuple(days),
            state=digest({week: states[week] for week in states if week not in seen}),
            because=f"features of {days[-1]} and no issue of it",
        )
        request_state, attempt = self.history.state_of(intent)
        if request_state is RequestState.DUE and (run_id := self.history.under_way(intent.job)) is not None:
            # That run may issue the same sessions.
            return [], seen, f"signals of {', '.join(days[:5])}: waits for run {run_id[:8]} of {intent.job}"
        if request_state is RequestState.DUE:
            return [intent.request(attempt)], seen, f"signals of {', '.join(days[:5])}"
        if request_state is RequestState.UNDER_WAY:
            return [], seen, f"signals of {', '.join(days[:5])} are under way"
        handled = {week: state for week, state in states.items() if week not in remaining}
        return [], handled, f"signals of {', '.join(days[:5])} failed and wait for their features or model to change"

    def _signal_states(self) -> dict[str, str]:
        """Weeks that have features and a model to serve them, with a digest of both."""
        oldest = self.plan.max_model_age_weeks
        # A rule that looks back needs the models of earlier weeks too: signals that lacked one are asked for when it is there.
        ages = range(-oldest - self.plan.memory_weeks, 1)
        weeks = set.intersection(*(set(tags) for tags in self._feature_tags.values()))
        states = {}
        for week in sorted(weeks):
            models = {each: tag for age in ages if (tag := self._model_tags.get(each := shift_week(week, age)))}
            if any(each >= shift_week(week, -oldest) for each in models):
                states[week] = digest([tags[week] for tags in self._feature_tags.values()], models)
        return states

    def _unissued(self, weeks: Sequence[str]) -> tuple[list[str], set[str]]:
        """Sessions of weeks that can be issued now, and the weeks that must be looked at again."""
        if not weeks:
            return [], set()
        issued = set(self._issue_tags)
        days: list[str] = []
        remaining = set()
        for week in weeks:
            judged = [self._checker.is_current(asset, week).is_current for asset in self._feature_tags]
            if not all(judged):
                # Their features are about to be made again.
                remaining.add(week)
                continue
            closed = [day for day in sorted(self._featured(week) - issued) if self._has_closed(parse_key(day))]
            # Asked only where something is to be issued: a history is read record by record.
            ready = self._featured(week, self._champion_features) if closed and self._champion_features else {*closed}
            days += [day for day in closed if day in ready]
            if not ready.issuperset(closed):
                remaining.add(week)
        return days, remaining

    def _featured(self, week: str, assets: Iterable[str] | None = None) -> set[str]:
        """Sessions of a week that have features of every group of the YAML, or of some assets."""
        footers = [self._checker.footer(asset, week) for asset in (self._feature_tags if assets is None else assets)]
        return set.intersection(*(set(footer.session_hashes) if footer else set() for footer in footers))

    def _has_closed(self, day: date) -> bool:
        partitions = self.plan.market.partitions
        return partitions.is_session(day) and partitions.hours[day][1] <= self.now


def _tick(requests: list[dg.RunRequest], model: str, weeks: Mapping[str, str] | None, *notes: str) -> Tick:
    return Tick(requests, json.dumps({"model": model, "weeks": weeks}, sort_keys=True), tuple(filter(None, notes)))
