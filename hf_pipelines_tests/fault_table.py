"""Faults: every fault that the pipeline was tried with, what must come of it, and what does: `make faults`.

Run: `python -m hf_pipelines_tests.fault_table [WORD ...]`, with words for the rows that hold one of them. Prints a table;
ends with 1 if a row does not come out as it must. Real processes: servers, databases, daemons and runs that are killed.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# Fault, what must come of it, and the test that plants it: `file::name` below this folder.
FAULTS: tuple[tuple[str, str, str], ...] = (
    # Processes that die.
    ("kill -9 of a run that publishes bars", "each week is old or new, a retry gives the same hashes", "test_faults.py::test_bars_killed_in_mid_publish_leave_each_week_old_or_new_and_a_retry_gives_the_identical_hashes"),
    ("kill -9 of a run that trains", "the old model stays, a retry gives the same hash", "test_faults.py::test_fitted_model_killed_in_mid_training_leaves_the_old_one_and_a_retry_gives_the_identical_hash"),
    ("kill -9 before, in and after a write", "a whole partition each time", "test_restarts.py::test_publish_killed_before_during_and_after_the_write_leaves_a_whole_partition_and_the_last_retry_makes_it_identical"),
    ("kill -9 of all processes in training and in a write", "made good after each restart", "test_restarts.py::test_everything_killed_in_training_in_the_write_and_before_the_event_is_made_good_after_each_restart"),
    ("kill -9 of a backfill", "each week whole, all of them in the end", "test_restarts.py::test_backfill_killed_alone_and_then_with_everything_keeps_each_week_whole_and_ends_with_all_of_them"),
    ("kill -9 of a run between its signals and their event", "issued once", "test_restarts.py::test_signal_whose_run_is_killed_before_its_event_is_issued_once"),
    ("a failure is read before its status is written", "retried all the same", "test_restarts.py::test_run_whose_failure_is_read_before_its_status_is_written_is_retried_all_the_same"),
    ("kill -9 of the code server under a run", "the run ends by itself, Terminate works", "test_restarts.py::test_run_whose_code_server_is_killed_is_left_to_end_by_itself_and_can_still_be_terminated"),
    ("kill -9 of a command", "failed within two polls, no retry", "test_restarts.py::test_command_that_is_killed_is_failed_within_two_polls_and_is_not_announced_for_a_retry"),
    ("services of the stack die, the inner process of the code server too", "served again, no run twice, no secret shown", "test_stack.py::test_stack_from_its_start_to_its_end_keeps_what_it_has_and_its_secrets"),
    ("a service ends again and again", "given up after five restarts, and told", "test_stack.py::test_supervisor_of_a_service_that_ends_again_and_again_gives_up_after_five_restarts"),
    ("a service never starts", "given up at once with the end of its log", "test_stack.py::test_supervisor_of_a_service_that_never_starts_gives_up_at_once_with_the_end_of_its_log"),
    ("a service lives and does not serve", "restarted", "test_stack.py::test_supervisor_restarts_a_service_that_lives_and_does_not_serve_any_more"),
    ("a service that can be revived dies inside", "revived, not for ever", "test_stack.py::test_supervisor_revives_a_service_that_can_be_without_a_restart_and_not_for_ever"),
    ("the daemon stands still (SIGSTOP)", "told once by the web server, and once when it goes on", "test_notifications.py::test_incidents_are_told_once_and_once_when_healed_through_restarts_and_an_absent_receiver"),
    ("the supervisor gives up", "a person is told", "serving/test_lookout.py::test_supervisor_that_gives_up_tells_it"),
    ("a run's process number belongs to another process", "the run is failed", "resources/test_run_launcher.py::test_health_of_a_run_whose_process_number_was_given_to_another_is_not_found"),
    ("the machine was restarted under a run", "the run is failed", "resources/test_run_launcher.py::test_health_of_a_run_from_before_a_restart_of_the_machine_is_not_found_though_its_process_number_is_taken"),
    ("a run is asked for twice, and its code server dies as it starts one", "executed once, one start, SUCCESS", "resources/test_run_launcher.py::test_run_asked_for_twice_and_run_whose_code_server_dies_as_it_starts_are_executed_once"),
    ("a second process of a run that lives", "refused; takes over when the first is killed", "resources/test_run_claims.py::test_run_that_a_living_process_executes_is_refused_to_another_and_free_again_when_it_is_killed"),
    ("a requeued run whose process lives", "not launched again", "resources/test_run_launcher.py::test_run_whose_process_lives_is_not_launched_again_and_one_whose_process_died_is"),
    # What stops without a word.
    ("sensors stop ticking", "told once from outside, and once when well", "serving/test_lookout.py::test_sensors_that_stop_together_are_told_once_over_a_restart_and_once_when_each_ticks_again"),
    ("the code cannot be loaded, the database is away", "told", "serving/test_lookout.py::test_code_that_is_not_loaded_and_a_database_that_is_away_are_told"),
    ("no successful tick while the daemon looks well", "stopped, status 2", "resources/test_pulse.py::test_sensor_without_a_successful_tick_for_longer_than_stated_has_stopped_whatever_the_daemon_says"),
    ("a schedule misses its time", "stopped", "resources/test_pulse.py::test_schedule_that_missed_its_time_has_stopped_and_one_whose_time_has_not_come_has_not"),
    ("the daemon is gone", "told once", "resources/test_pulse.py::test_daemon_that_is_gone_is_told_once_and_one_that_never_ran_is_not_missed"),
    ("one thread of the daemon hangs", "as if it were gone", "resources/test_pulse.py::test_one_thread_of_the_daemon_that_hangs_is_a_daemon_that_is_gone"),
    ("the queue does not move", "stopped", "resources/test_pulse.py::test_queue_that_does_not_move_has_stopped_also_behind_a_dead_run"),
    ("disk or memory runs out", "told before", "resources/test_pulse.py::test_disk_and_memory_below_what_is_stated_are_told_before_they_run_out"),
    ("a run died and there is no daemon", "shown as dead, status 2", "components/operations/test_status.py::test_run_whose_process_is_gone_is_dead_also_without_a_daemon_and_not_well"),
    ("a killed command is typed again", "no trouble, no incident", "components/operations/test_incidents.py::test_dead_run_is_no_trouble_once_every_partition_that_it_left_is_made_or_had_nothing_to_make"),
    ("a week was rejected", "shown as rejected", "components/operations/test_status.py::test_rejected_weeks_are_told_as_rejected_and_the_others_as_to_make"),
    # Servers that are away or answer nonsense.
    ("S3 fails for a moment", "the very bytes", "test_storage_faults.py::test_object_store_whose_server_fails_for_a_moment_reads_and_writes_the_very_bytes"),
    ("S3 fails for good", "key, root and cause; the old object stays", "test_storage_faults.py::test_object_store_whose_server_fails_for_good_names_key_root_and_cause_and_keeps_the_old_object"),
    ("the answer to a create-only put is lost", "held once", "test_storage_faults.py::test_create_only_put_whose_answer_is_lost_holds_the_object_once_and_its_issue_is_unchanged"),
    ("S3 is gone while bars are made", "waits, says so, same hashes", "test_storage_faults.py::test_bars_on_s3_that_is_gone_for_a_while_wait_say_so_and_end_with_the_undisturbed_hashes"),
    ("S3 refuses", "key and cause; each week old or new; heals", "test_storage_faults.py::test_bars_that_s3_refuses_fail_naming_key_and_cause_with_each_week_old_or_new_and_heal"),
    ("S3 breaks off", "tried again, issued once", "test_storage_faults.py::test_features_and_signals_on_an_s3_that_breaks_off_are_tried_again_and_issued_once"),
    ("an S3 endpoint answers a page", "an error, no empty store", "resources/test_issues.py::test_endpoint_that_answers_something_else_is_an_error_and_no_empty_store"),
    ("MLflow is away before and in training", "waited for, one run", "test_server_faults.py::test_fitted_model_waits_for_a_tracking_server_that_is_away_before_and_during_training_and_ends_one_run"),
    ("the code server restarts in a backfill", "each week once, same hashes", "test_server_faults.py::test_backfill_whose_code_server_restarts_publishes_each_week_once_with_the_undisturbed_hashes"),
    ("PostgreSQL restarts in mid-run", "the run goes on", "test_server_faults.py::test_run_goes_on_when_postgres_restarts_in_mid_run"),
    ("PostgreSQL is away too long", "failed, run again, no ghost", "test_server_faults.py::test_run_that_postgres_leaves_alone_too_long_is_failed_and_run_again_and_is_no_ghost"),
    ("PostgreSQL is away for the thread that watches runs", "it waits", "resources/test_instance_storage.py::test_thread_that_watches_over_runs_waits_for_postgres_as_long_as_it_is_away"),
    ("a tick takes too long", "given up, the next asks once", "test_server_faults.py::test_tick_that_takes_too_long_is_given_up_and_the_next_one_asks_once"),
    ("a vendor's answer is a bomb, endless, or encoded twice", "its week fails by name", "resources/market_data/test_hostile_answers.py::test_answer_above_a_cap_or_encoded_otherwise_fails_its_week"),
    ("Yahoo's answer is a bomb or endless", "refused while it comes", "resources/market_data/test_yfinance.py::test_answer_of_yahoo_above_the_cap_is_refused_while_it_comes"),
    ("a vendor redirects elsewhere", "refused, not followed", "resources/market_data/test_hostile_answers.py::test_answer_that_leads_elsewhere_is_refused_and_not_followed"),
    ("a certificate is wrong", "refused at once", "resources/market_data/test_hostile_answers.py::test_certificate_that_is_wrong_is_refused_at_once"),
    ("no keys for a bucket", "the metadata address is not asked", "resources/test_redaction.py::test_without_keys_the_metadata_address_is_asked_only_where_that_is_allowed"),
    # What follows from a promotion.
    ("a process dies after each step of a promotion and a rollback", "one champion, each payload once by its id", "resources/promotions/test_following.py::test_killed_after_each_step_of_promotion_and_rollback_everything_is_there_once"),
    ("two of them die so beside each other", "the same", "resources/promotions/test_following.py::test_two_processes_that_are_killed_after_each_step_beside_each_other_leave_everything_once"),
    ("MLflow is away in a promotion", "it stands, the registry follows", "resources/promotions/test_following.py::test_while_the_tracking_server_is_away_decisions_stand_and_its_registry_follows_later"),
    ("the portfolio layer refuses payloads", "they wait, in order", "resources/promotions/test_following.py::test_payloads_are_sent_in_order_once_taken_never_again_and_wait_while_the_receiver_refuses"),
    ("the asset and the command promote at once", "one is recorded", "components/test_promotion.py::test_asset_records_what_the_gates_say_and_shows_it_and_what_follows"),
    # Clocks.
    ("the clock is set back", "no session lost", "test_server_faults.py::test_bars_made_with_a_clock_that_was_set_back_lose_no_session"),
    ("the clock jumps", "issued once, never live", "test_server_faults.py::test_signals_by_a_clock_that_jumps_are_issued_once_and_never_become_live"),
    ("the clocks change for summer", "right hours", "test_server_faults.py::test_week_in_which_the_clocks_change_has_models_sessions_and_signals_at_the_right_hours"),
    # What arrives.
    ("a sparse file of 400 GB", "named; others go on; heals", "resources/market_data/test_hostile_files.py::test_read_of_a_sparse_file_of_400_gb_names_it_and_takes_it_once_it_is_put_right"),
    ("kilobytes that decode to gigabytes", "refused before decoding", "resources/market_data/test_hostile_files.py::test_read_of_kilobytes_that_decode_to_ten_gigabytes_is_refused_by_what_they_would_take"),
    ("a CSV above a cap", "refused unparsed", "resources/market_data/test_hostile_files.py::test_read_of_a_csv_above_a_cap_is_refused_unparsed"),
    ("pipes, folders, devices among stored features", "named, not waited for", "resources/test_feature_reader.py::test_load_features_of_what_is_no_regular_file_names_it_and_does_not_wait"),
    ("links, loops, pipes, devices, folders", "named, not followed", "resources/market_data/test_hostile_files.py::test_read_of_what_is_no_regular_file_names_it_and_neither_follows_it_nor_waits"),
    ("a file of somebody's secrets", "nothing of it is quoted", "resources/market_data/test_hostile_files.py::test_what_is_said_of_a_file_quotes_nothing_of_it_but_excerpts"),
    ("a parser crashes, hangs or takes all memory", "an error of that file", "resources/market_data/test_hostile_files.py::test_a_parser_that_crashes_hangs_or_takes_all_memory_is_an_error_of_its_file_and_the_next_is_read"),
    ("a CSV that was cut off", "refused", "resources/market_data/test_files.py::test_read_of_a_csv_that_does_not_parse_names_file_and_row"),
    ("two runs over the same new files", "no day lost", "test_concurrent_runs.py::test_older_run_that_ends_last_reads_again_and_loses_no_day"),
    ("a file disappears", "its week is refused, the day stays", "test_concurrent_runs.py::test_run_whose_source_lost_a_file_is_refused_and_the_day_stays"),
    # What is stored.
    ("the disk fills up", "old weeks stay, the reason is told", "test_faults.py::test_bars_on_a_disk_that_fills_in_mid_publish_keep_the_old_weeks_and_say_why"),
    ("a model's bytes are changed", "refused before parsing", "test_faults.py::test_signals_of_a_tampered_model_refuse_before_parsing_and_name_the_file"),
    ("a partition is damaged", "what reads it fails and names it", "test_faults.py::test_features_of_damaged_bars_fail_and_name_the_file"),
    ("one week of many is damaged", "those that read it fail alone", "test_faults.py::test_features_over_a_range_with_a_damaged_week_of_bars_fail_those_that_read_it_alone"),
    ("stray files among partitions", "named, stop nobody", "resources/test_issues.py::test_files_among_partitions_that_are_none_are_named_and_stop_nobody"),
    ("latest.json is deleted or changed", "told, written again", "resources/test_issues.py::test_latest_that_is_gone_or_says_something_else_is_told_and_written_again"),
    ("the newest issue is deleted", "told, no older one takes its place", "resources/test_issues.py::test_newest_issue_that_is_deleted_is_told_and_no_older_one_takes_its_place"),
    ("a planted issue of 2099", "never the newest", "resources/test_issues.py::test_planted_issue_of_no_closed_session_by_no_model_or_with_another_days_content_is_never_the_newest"),
    ("a stored object of 60 GB", "named, refused, replaced by a publish", "resources/test_issues.py::test_stored_object_of_60_gb_is_named_refused_and_replaced_by_a_publish"),
    ("stored kilobytes that decode to gigabytes", "refused", "resources/test_issues.py::test_stored_kilobytes_that_decode_to_gigabytes_are_refused"),
    ("a folder that leads to itself", "one clear line", "resources/test_issues.py::test_folder_that_leads_to_itself_is_one_clear_line"),
    ("a data folder that cannot be written", "one clear line", "resources/test_settings.py::test_data_folder_that_cannot_be_written_is_told_in_one_line"),
    # The web and secrets.
    ("a POST of 600 MB", "refused unread", "serving/test_limits.py::test_body_of_600_mb_is_refused_before_it_is_sent_and_neither_kept_nor_echoed"),
    ("a head that is too long", "refused", "serving/test_limits.py::test_head_that_is_too_long_is_refused"),
    ("a head that comes too slowly", "given up", "serving/test_limits.py::test_head_that_comes_too_slowly_is_given_up"),
    ("a body that comes too slowly", "refused", "serving/test_limits.py::test_body_that_comes_too_slowly_is_refused"),
    ("an answer that nobody takes", "given up", "serving/test_limits.py::test_answer_that_nobody_takes_is_given_up"),
    ("what another site could send", "refused", "serving/test_webserver.py::test_guarded_ui_with_what_another_site_could_send_refuses"),
    ("a hostile page in the browser", "starts and reads nothing", "serving/test_hostile_page.py::test_hostile_page_starts_and_reads_nothing_where_the_plain_webserver_starts_runs"),
    ("a page behind another name", "starts and reads nothing", "serving/test_hostile_page.py::test_rebound_page_starts_and_reads_nothing_where_the_plain_webserver_obeys"),
    ("a secret in each variable, and each failure", "shown nowhere", "resources/test_redaction.py::test_failure_shows_no_secret_in_its_words_nor_in_those_of_what_led_to_it"),
    ("a traceback that nobody expected", "no secret", "resources/test_redaction.py::test_command_prints_no_secret_also_in_a_traceback_that_nobody_expected"),
    # YAML, settings, commands.
    ("300 faulty YAML files", "a line a fault, with file and line; none hangs", "components/test_yaml_files.py::test_component_of_fifty_faulty_files_tells_each_in_lines_with_rule_and_place"),
    ("YAML that is a pipe, a loop, 400 GB", "named at once", "components/test_yaml_files.py::test_faulty_files_name_what_is_no_regular_file_at_once"),
    ("one market cannot be loaded", "commands on others go on", "test_bad_input.py::test_commands_on_a_project_with_a_faulty_market_name_it_and_go_on_with_the_others"),
    ("hfp ui over faulty YAML", "which line", "test_stack.py::test_ui_over_faulty_yaml_says_which_line_keeps_the_pipeline_from_being_loaded"),
    ("a setting out of its range", "refused by every command", "resources/test_settings.py::test_every_command_refuses_a_setting_out_of_its_range_in_one_line"),
    ("inputs are missing", "named at once, the commands cure", "components/test_remedies.py::test_failure_of_signals_names_all_that_is_missing_and_its_commands_cure"),
    ("every command that status, current and verify name", "its line is gone when it was run", "components/test_remedies.py::test_each_line_of_status_current_and_verify_that_names_a_command_is_gone_when_that_was_run"),
    ("a hole in the middle", "the command cures", "components/test_remedies.py::test_failure_over_a_hole_in_the_middle_is_cured_by_its_command"),
)  # fmt: skip


class Outcomes:
    """Plugin of pytest: what became of each test function, over its parameters and phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.seen: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of one test; a group's name and the parameters are cut off its id."""
        name = report.nodeid.partition("@")[0].partition("[")[0].removeprefix(f"{TESTS.name}/")
        self.seconds[name] += report.duration
        if report.failed:
            self.seen[name] = (report.longreprtext.strip().splitlines() or ["failed"])[-1][:80]
        elif report.skipped:
            self.seen.setdefault(name, "skipped")
        elif report.when == "call":
            self.seen.setdefault(name, "as it must")


def main(words: Sequence[str]) -> int:
    """Run the rows that hold one of the words (all without any), and print the table."""
    rows = [row for row in FAULTS if not words or any(word in " ".join(row) for word in words)]
    outcomes = Outcomes()
    tests = sorted({str(TESTS / test) for _, _, test in rows})
    pytest.main(
        ["-q", "--numprocesses", "2", "--dist", "loadgroup", "--no-loadscope-reorder", *tests], plugins=[outcomes]
    )
    print("\n| fault | must | seen | seconds |\n|---|---|---|---|")
    seen = [outcomes.seen.get(test, "not run") for _, _, test in rows]
    for (fault, must, test), found in zip(rows, seen, strict=True):
        print(f"| {fault} | {must} | {found} | {outcomes.seconds[test]:.1f} |")
    wrong = [each for each in seen if each not in ("as it must", "skipped")]
    print(f"\n{len(rows)} faults, {len(wrong)} not as they must be, {seen.count('skipped')} skipped")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
