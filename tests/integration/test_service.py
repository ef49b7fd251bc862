"""A process of ours is started again after a crash, and not when starting again cannot help."""

from pathlib import Path

import psutil
import pytest
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from detection.errors import OperatorError
from local.service import Service


@retry(retry=retry_if_result(lambda note: note is None), stop=stop_after_delay(30), wait=wait_fixed(0.05))
def tended(service: Service) -> str | None:
    return service.tend()


@retry(retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(30), wait=wait_fixed(0.02), reraise=True)
def pid_of(service: Service) -> int:
    assert service.pid is not None
    return service.pid


def test_a_service_that_only_a_person_can_mend_is_not_started_again(tmp_path: Path) -> None:
    environment = {"TIDEMARK_KAFKA_PARTITIONS": "0"}
    service = Service("worker", "worker", data_dir=tmp_path, environment=environment, is_restarted=True)
    service.start()
    try:
        with pytest.raises(OperatorError) as failure:
            tended(service)
    finally:
        service.stop()
    message = str(failure.value)
    assert "exit code 4" in message
    assert "TIDEMARK_KAFKA_PARTITIONS" in message
    assert str(tmp_path / "worker.log") in message


def test_a_killed_service_is_started_again_and_says_so(tmp_path: Path) -> None:
    service = Service("worker", "worker", data_dir=tmp_path, environment={}, is_restarted=True)
    service.start()
    try:
        first = pid_of(service)
        psutil.Process(first).kill()
        assert tended(service) == "the worker ended unexpectedly (SIGKILL) and was started again"
        assert pid_of(service) != first
        assert service.restarts == 1
    finally:
        service.stop()
    assert not service.is_running


def test_a_service_without_restarts_fails_at_its_first_end(tmp_path: Path) -> None:
    service = Service("api", "api", data_dir=tmp_path, environment={}, is_restarted=False)
    service.start()
    try:
        psutil.Process(pid_of(service)).kill()
        with pytest.raises(OperatorError, match="SIGKILL"):
            tended(service)
    finally:
        service.stop()
