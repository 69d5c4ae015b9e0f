"""Behaviour of the command line: what it refuses and how, what it says of the settings, what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stream_app import cli
from stream_app.commands.options import (
    parse_assignment,
    parse_duration_ms,
    parse_map,
    parse_speed,
    parse_time_ms,
)
from stream_app.commands.settings import as_toml, leaves, load_settings, origin
from stream_app.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, HeadraceError, UsageError
from stream_app.settings import Settings, load


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test starts in an empty folder, without `HEADRACE_*` variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("HEADRACE_CONFIG", "HEADRACE_DEBUG", "HEADRACE_BROKER__URL", "HEADRACE_WORKER__DEVICE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


class TestParsing:
    def test_speed_is_a_factor_or_max(self) -> None:
        assert parse_speed("100x") == 100.0
        assert parse_speed("0.5x") == 0.5
        assert parse_speed("max") is None

    @pytest.mark.parametrize("text", ["100", "0x", "-1x", "x", "fast", "", "1e3x", "100X ", "nanx", "infx"])
    def test_any_other_speed_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--speed"):
            parse_speed(text)

    def test_durations(self) -> None:
        assert parse_duration_ms("--window", "1s") == 1000
        assert parse_duration_ms("--window", "250ms") == 250
        assert parse_duration_ms("--window", "15m") == 900_000

    @pytest.mark.parametrize("text", ["1", "0s", "-1s", "1.5s", "s", "1 s", "1w", ""])
    def test_any_other_duration_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--window"):
            parse_duration_ms("--window", text)

    def test_moments_are_utc_unless_they_say_otherwise(self) -> None:
        assert parse_time_ms("--from", "1970-01-02") == 86_400_000
        assert parse_time_ms("--from", "1970-01-01T01:00:00+01:00") == 0
        assert parse_time_ms("--from", "86400000000") == 86_400_000_000

    @pytest.mark.parametrize("text", ["yesterday", "", "1970-13-01", "-5", "1.5"])
    def test_what_is_no_moment_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--from"):
            parse_time_ms("--from", text)

    def test_a_map_takes_short_and_long_names(self) -> None:
        assert parse_map("user_id=u, item=movieId,ts=3") == {"user": "u", "item": "movieId", "ts": "3"}
        assert parse_map(None) == {}

    @pytest.mark.parametrize("text", ["user", "user=", "=x", "price=x", "user=a,user_id=b", "user=a,,"])
    def test_a_wrong_map_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--map"):
            parse_map(text)

    def test_lists_and_tables_are_assigned_as_in_toml(self) -> None:
        assert parse_assignment('topics.events=["a", "b"]') == ("topics.events", ["a", "b"])
        assert parse_assignment("broker.security={a = 'b=c'}") == ("broker.security", {"a": "b=c"})
        assert parse_assignment("broker.group=a=b") == ("broker.group", "a=b")

    @pytest.mark.parametrize(
        "text", ["seed", "=1", ".seed=1", "worker..poll_ms=1", "topics.events=[", "a b=1"]
    )
    def test_a_wrong_assignment_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--set"):
            parse_assignment(text)


class TestSettings:
    def test_flags_win_over_variables_over_the_file_over_defaults(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        config = tmp_path / "mine.toml"
        config.write_text("seed = 3\n[worker]\npoll_ms = 3\nbatch_events = 3\ncommit_s = 3\n")
        monkeypatch.setenv("HEADRACE_WORKER__POLL_MS", "4")
        monkeypatch.setenv("HEADRACE_WORKER__BATCH_EVENTS", "4")
        settings = load_settings(config, None, ["worker.batch_events=5"], {"worker.web_port": 6})
        worker = settings.worker
        assert (settings.seed, worker.commit_s, worker.poll_ms, worker.batch_events) == (3, 3.0, 4, 5)
        assert worker.web_port == 6

    def test_the_flag_of_a_command_wins_over_set(self) -> None:
        assert load_settings(None, "b:2", ["broker.url=a:1"]).broker.url == "b:2"

    def test_every_wrong_value_is_a_line_with_field_value_and_source(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HEADRACE_WORKER__DEVICE", "gpu")
        with pytest.raises(UsageError) as caught:
            load_settings(None, None, ["models.blend.lr=-3"])
        lines = str(caught.value).splitlines()
        assert len(lines) == 2
        assert "worker.device: 'gpu' (from HEADRACE_WORKER__DEVICE)" in lines[0]
        assert "'auto', 'cpu' or 'cuda'" in lines[0]
        assert "models.blend.lr: '-3' (from flag)" in lines[1]
        assert "greater than or equal to 0" in lines[1]

    def test_an_unknown_setting_is_named_with_the_nearest_one(self) -> None:
        with pytest.raises(UsageError, match=r"models\.blend\.lrr: no such setting .*models\.blend\.lr\?"):
            load_settings(None, None, ["models.blend.lrr=1"])

    @pytest.mark.parametrize(
        "url", ["localhost", "localhost:", ":9092", "h:0", "h:65536", "h:x", "a:1,", "a b:1"]
    )
    def test_an_address_needs_host_and_port(self, url: str) -> None:
        with pytest.raises(UsageError, match="HOST:PORT"):
            load_settings(None, url, None)

    @pytest.mark.parametrize("url", ["localhost:9092", "a.b-c:1,10.0.0.1:65535", "[::1]:9092"])
    def test_addresses_that_are_taken(self, url: str) -> None:
        assert load_settings(None, url, None).broker.url == url

    def test_a_missing_config_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            load_settings(tmp_path / "none.toml", None, None)

    def test_a_config_file_that_is_no_toml_is_told_with_its_line(self, tmp_path: Path) -> None:
        config = tmp_path / "bad.toml"
        config.write_text("seed = 1\nseed seed")
        with pytest.raises(UsageError, match=r"bad\.toml.*line 2"):
            load_settings(config, None, None)

    def test_a_variable_that_is_no_json_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADRACE_TOPICS__EVENTS", "[clicks")
        with pytest.raises(UsageError, match="variable"):
            load_settings(None, None, None)

    def test_the_source_of_each_value_is_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADRACE_EVENTS__WEIGHTS", '{"click": 2}')
        toml = {"worker": {"poll_ms": 3}}
        assert origin("worker.poll_ms", {}, toml) == "headrace.toml"
        assert origin("worker.poll_ms", {"worker.poll_ms": 1}, toml) == "flag"
        assert origin("broker.security", {"broker.security.sasl_mechanism": "x"}, {}) == "flag"
        assert origin("events.weights", {}, {}) == "HEADRACE_EVENTS__WEIGHTS"
        assert origin("worker.batch_events", {}, toml) == "default"

    def test_every_setting_can_be_written_and_assigned_again(self) -> None:
        for path, value, _ in leaves(load()):
            if value is None:
                continue
            again: object = load(dict([parse_assignment(f"{path}={as_toml(value)}")]))
            for part in path.split("."):
                again = getattr(again, part)
            assert again == value, path


class TestRun:
    def test_the_settings_are_printed_with_their_source(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["settings", "--set", "seed=7"]) == EXIT_OK
        lines = capsys.readouterr().out.splitlines()
        assert "seed = 7  # flag" in lines
        assert len(lines) == len(list(leaves(load())))

    def test_only_what_was_changed_on_request(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["settings", "--changed", "--set", "seed=7"]) == EXIT_OK
        assert capsys.readouterr().out == "seed = 7  # flag\n"

    def test_a_password_is_not_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        cli.run(["settings", "--set", "broker.security.sasl_plain_password=hunter2"])
        assert "hunter2" not in capsys.readouterr().out

    @pytest.mark.parametrize(
        "words",
        [
            ["frob"],
            ["recommend"],
            ["settings", "--set", "seed=x"],
            ["settings", "--broker", "nowhere"],
            ["replay", "ml-100k", "--speed", "5"],
            ["replay", "ml-100k", "--speed", "5x", "--rate", "5"],
            ["replay", "no-such-file.csv"],
            ["replay", "ml-100k", "--map", "user=u"],
            ["backtest", "ml-100k", "--window", "5"],
            ["broker", "--dir", "x"],
            ["topics", "create", "--partitions", "0"],
        ],
    )
    def test_what_is_asked_wrongly_ends_with_2(
        self, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(words) == EXIT_USAGE
        assert "Traceback" not in capsys.readouterr().err

    @pytest.mark.parametrize(
        "words",
        [
            ["backtest", "nothing.csv", "--out", "file"],
            ["trainer", "--snapshots", "file"],
            ["trainer", "--state-dir", "file"],
        ],
    )
    def test_a_folder_that_can_not_be_written_to_is_told_before_the_work(
        self, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        assert cli.run(words) == EXIT_USAGE
        assert f"{words[-2]} file: can't be written to: File exists" in capsys.readouterr().err

    def test_a_failure_is_one_line_with_advice_and_ends_with_1(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["recommend", "u", "--broker", "127.0.0.1:1", "--set", "broker.connect_timeout_s=0.1"]
        assert cli.run(words) == EXIT_FAILED
        told = capsys.readouterr().err.splitlines()
        assert told[0].startswith("headrace: no Kafka broker answers at 127.0.0.1:1")
        assert "headrace broker" in told[1]
        assert len(told) == 2

    def test_debug_shows_the_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADRACE_DEBUG", "1")
        with pytest.raises(HeadraceError):
            cli.run(["settings", "--broker", "nowhere"])

    def test_the_version_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["--version"]) == EXIT_OK
        assert capsys.readouterr().out.startswith("headrace ")

    def test_help_loads_nothing_heavy(self) -> None:
        code = (
            "import sys; from stream_app import cli; cli.run(['--help']);"
            "heavy = {'torch', 'numba', 'numpy', 'aiokafka', 'kafka', 'faust', 'polars', 'pydantic', 'rich'};"
            "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
        )
        root = Path(cli.__file__).parents[1]
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
        )
        assert done.stderr.strip() == "[]"
        assert "worker" in done.stdout

    def test_every_command_has_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        commands = ["broker", "topics create", "topics describe", "replay", "simulate", "worker", "trainer"]
        commands += [
            "models list",
            "models rollback",
            "models unpin",
            "models compress",
            "models distil",
            "models train",
            "backtest",
            "evaluate",
            "tune",
            "settings",
            "watch",
            "recommend",
            "demo",
        ]
        commands += [f"state {name}" for name in ("show", "explain", "dump", "offsets", "export", "import")]
        for command in commands:
            assert cli.run([*command.split(), "--help"]) == EXIT_OK, command
            assert "--help" in capsys.readouterr().out


def test_settings_are_the_defaults_without_anything() -> None:
    assert load_settings(None, None, None) == Settings()
