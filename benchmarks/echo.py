"""What freshness costs without any work: append → relay → append → read, with one acknowledgement a poll.

    python -m benchmarks.echo [RATE] [SECONDS] [OUT_BYTES]

Events come on a fixed schedule. A relay in a process of its own polls, sends one record of OUT_BYTES for each
event and waits for the acknowledgements before it polls again, as a worker that computes nothing would. The
latency is that of the worker's freshness: append time of the outgoing record minus append time of the event.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks import record, topics_filled
from benchmarks.open_loop import endless, produce
from stream_app.brokers.broker import KafkaBroker

WARM_UP_S = 2.0
OUT_BYTES = 1800


async def relay(address: str, source: str, sink: str, partitions: int, size: int) -> None:
    """Answer each event with a record that begins with the event's append time; until it is killed."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
    )
    producer = AIOKafkaProducer(bootstrap_servers=address, acks=1, linger_ms=0, max_batch_size=1 << 17)
    await consumer.start()
    await producer.start()
    consumer.assign([TopicPartition(source, number) for number in range(partitions)])
    print("ready", flush=True)
    while True:
        batch = await consumer.getmany(timeout_ms=20, max_records=2000)
        waiting = [
            await producer.send(sink, f"{event.timestamp:<{size}}".encode(), event.key)
            for events in batch.values()
            for event in events
        ]
        if waiting:
            await asyncio.gather(*waiting)


async def measure(
    address: str, rate: float, seconds: float, size: int = OUT_BYTES, partitions: int = 4
) -> dict[str, Any]:
    """Freshness of an echo at this rate, in ms, on topics of its own."""
    name = f"echo-{uuid.uuid4().hex[:8]}"
    await topics_filled.create(address, f"{name}-in", partitions)
    await topics_filled.create(address, f"{name}-out", partitions)
    command = [sys.executable, "-m", "benchmarks.echo", "relay", address, f"{name}-in", f"{name}-out"]
    child = await asyncio.create_subprocess_exec(
        *command, str(partitions), str(size), stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    try:
        assert child.stdout is not None
        await child.stdout.readline()
        total = int(rate * (seconds + WARM_UP_S))
        sent = asyncio.create_task(produce(address, f"{name}-in", endless(), rate, seconds + WARM_UP_S))
        latencies = await _read(address, f"{name}-out", partitions, total)
        schedule = await sent
    finally:
        child.kill()
        await child.wait()
    return {
        "rate": rate,
        "out_bytes": size,
        "freshness_ms": record.quantiles(latencies[int(rate * WARM_UP_S) :]),
        "latest_send_ms": schedule["latest_send_ms"],
    }


async def _read(address: str, topic: str, partitions: int, total: int) -> list[float]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    latencies: list[float] = []
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        while len(latencies) < total:
            for answers in (await consumer.getmany(timeout_ms=1000)).values():
                latencies += [answer.timestamp - float(answer.value) for answer in answers]
    finally:
        await consumer.stop()
    return latencies


def main() -> None:
    if sys.argv[1:2] == ["relay"]:
        address, source, sink, partitions, size = sys.argv[2:]
        asyncio.run(relay(address, source, sink, int(partitions), int(size)))
        return
    rate, seconds, size = (*map(float, sys.argv[1:]), *(1000.0, 20.0, float(OUT_BYTES))[len(sys.argv) - 1 :])
    taken_on = record.machine()
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder)) as broker:
        figures = asyncio.run(measure(broker.address, rate, seconds, int(size)))
    record.write("echo", f"python -m benchmarks.echo {rate:.0f} {seconds:.0f} {size:.0f}", figures, taken_on)


if __name__ == "__main__":
    main()
