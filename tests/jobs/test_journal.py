"""Claims have one winner; a reader sees whole lines only."""

import threading

from al_driver.jobs.journal import Journal, JournalReader, claim_job, read_claim
from al_driver.layout import JOURNAL_FILE


def test_one_of_many_claims_a_job(tmp_path):
    won: list[int] = []

    def claim(number: int) -> None:
        if claim_job(tmp_path, {"by": number}):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and read_claim(tmp_path) == {"by": won[0]}
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_a_free_job_has_no_claim(tmp_path):
    assert read_claim(tmp_path) is None


def test_a_reader_takes_each_whole_line_once(tmp_path):
    reader = JournalReader(tmp_path)
    assert reader.read() == []
    journal = Journal(tmp_path)
    journal.write("begin", task="a\nb", attempt=1)
    assert reader.read() == [{"event": "begin", "task": "a\nb", "attempt": 1}]
    with (tmp_path / JOURNAL_FILE).open("a") as stream:
        stream.write('{"event": "e')
        stream.flush()
        assert reader.read() == []
        stream.write('nd"}\nnot json\n17\n{"event": "finished"}\n')
    assert reader.read() == [{"event": "end"}, {"event": "finished"}]
    assert reader.read() == []


def test_a_full_disk_costs_a_line_not_the_run(tmp_path, monkeypatch):
    journal, reader = Journal(tmp_path), JournalReader(tmp_path)
    stream = journal._stream

    class Full:
        def write(self, data: bytes) -> int:
            stream.write(data[:5])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_stream", Full())
    journal.write("end", task="lost")
    monkeypatch.setattr(journal, "_stream", stream)
    journal.write("end", task="kept")
    assert reader.read() == [{"event": "end", "task": "kept"}]
