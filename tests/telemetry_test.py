"""What a run writes while it goes."""

import json
import logging
import struct

from tensorboardX.proto import event_pb2

from genrec_jax.telemetry import MetricWriter, ProgressLine


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir):
    """Yields what the files for TensorBoard hold: records of length, check, data, check."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_metrics_are_appended_and_shown_on_tensorboard(tmp_path):
    with MetricWriter(tmp_path, 0, "tensorboard") as writer:
        writer.write(1, {"train/loss": 2.5})
        writer.write(2, {"valid/recall@10": 0.5})
    assert lines(tmp_path) == [{"step": 1, "train/loss": 2.5}, {"step": 2, "valid/recall@10": 0.5}]
    shown = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
    assert shown == [(1, "train/loss", 2.5), (2, "valid/recall@10", 0.5)]


def test_what_followed_the_checkpoint_is_dropped(tmp_path):
    with MetricWriter(tmp_path, 0, "tensorboard") as writer:
        for step in (10, 20, 30):
            writer.write(step, {"a": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')  # killed while it wrote
    with MetricWriter(tmp_path, 20, "tensorboard") as writer:
        writer.write(30, {"a": -1})
    assert lines(tmp_path) == [{"step": 10, "a": 10}, {"step": 20, "a": 20}, {"step": 30, "a": -1}]
    starts = [e.step for e in events(tmp_path) if e.session_log.status == e.session_log.START]
    assert starts[-1] == 21  # TensorBoard hides what came at or after it before


def test_plain_lines_where_there_is_no_terminal(tmp_path, caplog):
    with caplog.at_level(logging.INFO), ProgressLine("retrieval", 0, 100) as line:
        line.update(50, 1.25, 10.0)  # too soon after the start for a line
        line.update(100, 0.5, 10.0)
        line.say(100, {"valid/recall@10": 0.123456})
    last, said = caplog.messages
    assert last.startswith("retrieval 100/100  loss 0.5  10 steps/s") and "0 s left" in last
    assert "GiB" in last
    assert said == "retrieval step 100: valid/recall@10 0.1235"
