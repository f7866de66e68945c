"""Lines of workers: prefixes, and repetitions that are shown once."""

from __future__ import annotations

import io

import pytest

from orchestrator.api.worker_logs import Deduplicator, WorkerLogs


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COLOR_PREFIX", "DISABLE_WORKER_LOG_PREFIX", "DEDUP_LOGS", "DEDUP_LOGS_AGG_WINDOW_S"):
        monkeypatch.delenv(f"ORCHESTRATOR_{name}", raising=False)
        monkeypatch.delenv(f"RAY_{name}", raising=False)


def lines(pid, *texts, label="", stream="stdout"):
    return {"pid": pid, "label": label, "stream": stream, "lines": list(texts)}


class TestPrefix:
    def test_a_line_tells_its_process(self, capsys):
        logs = WorkerLogs(lambda: 0.0)
        logs.show(lines(7, "a", "b"))
        logs.show(lines(8, "c", label="Counter", stream="stderr"))
        out, err = capsys.readouterr()
        assert (out, err) == ("(worker pid=7) a\n(worker pid=7) b\n", "(Counter pid=8) c\n")

    def test_json_stays_json(self, capsys):
        WorkerLogs(lambda: 0.0).show(lines(7, '{"a": 1}'))
        assert capsys.readouterr().out == '{"a": 1}\n'

    @pytest.mark.parametrize(
        "name", ["ORCHESTRATOR_DISABLE_WORKER_LOG_PREFIX", "RAY_DISABLE_WORKER_LOG_PREFIX"]
    )
    def test_none_if_the_environment_says_so(self, name, monkeypatch, capsys):
        monkeypatch.setenv(name, "1")
        WorkerLogs(lambda: 0.0).show(lines(7, "a"))
        assert capsys.readouterr().out == "a\n"

    def test_colours_are_for_terminals(self, monkeypatch, capsys):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", terminal)
            WorkerLogs(lambda: 0.0).show(lines(7, "a"))
        assert terminal.getvalue().startswith("\033[") and terminal.getvalue().endswith("\033[0m a\n")
        monkeypatch.setenv("ORCHESTRATOR_COLOR_PREFIX", "1")
        WorkerLogs(lambda: 0.0).show(lines(7, "a"))
        assert "\033[" in capsys.readouterr().out


class TestRepetitions:
    def test_nothing_is_left_out_unless_asked_for(self, capsys):
        logs = WorkerLogs(lambda: 0.0)
        for pid in range(5):
            logs.show(lines(pid, "same"))
        logs.close()
        assert len(capsys.readouterr().out.splitlines()) == 5

    def test_the_same_from_many_is_shown_once_and_counted(self, monkeypatch, capsys):
        monkeypatch.setenv("ORCHESTRATOR_DEDUP_LOGS", "1")
        monkeypatch.setenv("ORCHESTRATOR_DEDUP_LOGS_AGG_WINDOW_S", "3")
        now = 0.0
        logs = WorkerLogs(lambda: now)
        for pid in range(5):
            logs.show(lines(pid, f"step {pid} took 0.{pid} s", "other" if pid == 0 else "step 9 took 1.5 s"))
        assert capsys.readouterr().out == "(worker pid=0) step 0 took 0.0 s\n(worker pid=0) other\n"
        logs.tick(2.9)
        assert capsys.readouterr().out == ""
        logs.tick(3.0)
        assert capsys.readouterr().out == "(worker pid=4) step 9 took 1.5 s [repeated 8x by other workers]\n"
        logs.show(lines(1, "step 10 took 2 s"))
        assert capsys.readouterr().out == "(worker pid=1) step 10 took 2 s\n", "the next window begins"

    def test_what_is_held_back_comes_at_the_end(self, monkeypatch, capsys):
        monkeypatch.setenv("RAY_DEDUP_LOGS", "1")
        logs = WorkerLogs(lambda: 0.0)
        logs.show(lines(1, "same"))
        logs.show(lines(2, "same"))
        logs.close()
        assert capsys.readouterr().out == "(worker pid=1) same\n(worker pid=2) same\n"

    def test_one_process_may_repeat_itself(self):
        deduplicator = Deduplicator(5.0, None, None)
        assert all(deduplicator.keep(1, "stdout", "same", "same", 0.0) for _ in range(3))
        assert not deduplicator.keep(2, "stdout", "same", "same", 0.0)
        assert deduplicator.keep(2, "stderr", "same", "same", 0.0), "streams are apart"

    def test_expressions_say_what_is_shown_always_and_never(self):
        deduplicator = Deduplicator(5.0, allow="ERROR", skip="DEBUG")
        for pid in (1, 2):
            assert deduplicator.keep(pid, "stdout", "ERROR x", "", 0.0)
            assert not deduplicator.keep(pid, "stdout", "DEBUG x", "", 0.0)
        assert deduplicator.due(100.0) == []
