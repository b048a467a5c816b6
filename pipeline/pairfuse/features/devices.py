"""Devices: each encodes batches of its own; several take buffers from one shared source.

On a GPU the next batch is stacked, pinned and launched before the features of the last are waited
for, so that it never idles between two. Which device made a row, and when, changes nothing in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Lock, Thread

from pairfuse.console import log
from pairfuse.encoders.base import EncoderInput, EncoderOutput, LaunchingEncoder, LoadedEncoder
from pairfuse.errors import EncoderError
from pairfuse.features.prefetch import Buffer

#: Tokens (padding included) that a text batch holds at most, for each input of the batch size.
TOKENS_PER_INPUT = 64
#: A short text's batch holds at most so many times the batch size.
MOST_INPUTS = 4
#: A text shorter than this part of the longest waits for the next batch, unless there are few.
LEAST_FULL, FEW = 0.9, 8
#: Batches whose features wait to be committed, for each device, while a commit goes on.
WAITING = 4

EncodedBatch = tuple[list[bytes], EncoderOutput]


@dataclass
class Device:
    """One device with its own network: the batch size halves, and stays so, on lack of memory."""

    loading: Future[LoadedEncoder]
    size: int
    #: Batches begun before the features of the oldest are waited for: 1 on a GPU.
    ahead: int = 0

    def encode(self, buffers: Iterator[Buffer]) -> Generator[EncodedBatch]:
        """Rows of all buffers, (keys, features (B, D)), each batch `ahead` batches later.

        Raises:
            EncoderError: Memory runs out with a batch of one.
        """
        begun: deque[tuple[list[bytes], Callable[[], EncoderOutput]]] = deque()
        for buffer in buffers:
            left = by_length(buffer)
            while left:
                batch = first_batch(left, self.size)
                try:
                    fetch = self._launch([item for _, item in batch])
                except (RuntimeError, MemoryError) as error:
                    self._halve(error, len(batch))
                    continue
                left = left[len(batch) :]
                begun.append(([key for key, _ in batch], fetch))
                if len(begun) > self.ahead:
                    keys, fetch = begun.popleft()
                    yield keys, fetch()
        for keys, fetch in begun:
            yield keys, fetch()

    def _launch(self, batch: Sequence[EncoderInput]) -> Callable[[], EncoderOutput]:
        loaded = self.loading.result()
        if self.ahead and isinstance(loaded, LaunchingEncoder):
            return loaded.launch(batch)
        features = loaded.encode(batch)
        return lambda: features

    def _halve(self, error: Exception, tried: int) -> None:
        if not (isinstance(error, MemoryError) or "out of memory" in str(error).lower()):
            raise error
        if tried == 1:
            raise EncoderError(
                "memory runs out with a batch of one; use --device cpu or a smaller encoder"
            ) from error
        self.size = max(1, min(self.size, tried) // 2)
        log.warning("out of memory with a batch of %d: going on with %d", tried, self.size)
        _free_device_memory()


def encode_on(
    devices: Sequence[Device],
    buffers: Iterator[Buffer],
    *,
    abandon: Callable[[], object] = lambda: None,
) -> Generator[EncodedBatch]:
    """Rows in the order in which they are ready; several devices have a thread each.

    Args:
        devices: One is used by the calling thread itself.
        buffers: Taken by whichever device is free.
        abandon: Called at the end, so that no device waits on for inputs that nobody wants.

    Raises:
        BaseException: The first error of any device; the others end after their batch.
    """
    if len(devices) == 1:
        yield from devices[0].encode(buffers)
        return
    # cut for all alike, so that a row's company does not depend on how many devices there are
    size = devices[0].size
    batches = (batch for buffer in buffers for batch in _batches_of(buffer, size))
    ready: Queue[EncodedBatch | BaseException | None] = Queue(WAITING * len(devices))
    taking, stopped = Lock(), Event()

    def take() -> Iterator[Buffer]:
        while True:
            with taking:
                batch = None if stopped.is_set() else next(batches, None)
            if batch is None:
                return
            yield batch

    def work(device: Device) -> None:
        try:
            for rows in device.encode(take()):
                ready.put(rows)
            ready.put(None)
        except BaseException as error:  # raised again by the reader
            ready.put(error)

    workers = [Thread(target=work, args=(device,), daemon=True) for device in devices]
    for worker in workers:
        worker.start()
    try:
        working = len(workers)
        while working:
            found = ready.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                working -= 1
            else:
                yield found
    finally:
        stopped.set()
        abandon()
        for worker in workers:
            while worker.is_alive():  # it may wait for room
                with suppress(Empty):
                    ready.get(timeout=0.02)


def by_length(buffer: Buffer) -> Buffer:
    """Longest first: what is too large for the memory fails early."""
    return sorted(buffer, key=lambda item: -item[1].size)


def first_batch(ordered: Buffer, size: int) -> Buffer:
    """The first inputs, longest first, that are not mostly padding beside the longest."""
    longest = ordered[0][1].size
    batch = ordered[: _fitting(longest, size)]
    kept = sum(item.size >= LEAST_FULL * longest for _, item in batch)
    return batch[: max(kept, FEW)]


def _fitting(longest: int, size: int) -> int:
    if longest <= 1:
        return size
    return max(1, min(MOST_INPUTS * size, size * TOKENS_PER_INPUT // longest))


def _batches_of(buffer: Buffer, size: int) -> Iterator[Buffer]:
    left = by_length(buffer)
    while left:
        batch = first_batch(left, size)
        yield batch
        left = left[len(batch) :]


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
