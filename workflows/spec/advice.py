"""Settings of services that are valid alone and do not fit together: what `validate` and `apply` warn of. Pure."""

from collections.abc import Iterator

from autonomic.workflows.spec.units import format_duration
from autonomic.workflows.spec.workflow import OnlineSpec, Service, Workflow


def advice(workflow: Workflow) -> list[str]:
    """What in a workflow will not do what it was written for, and what to write instead."""
    if not isinstance(workflow.spec, OnlineSpec):
        return []
    return [f"{workflow.name}/{service.name}: {text}" for service in workflow.spec.services for text in _of_service(service)]


def _of_service(service: Service) -> Iterator[str]:
    size, wait, timeout = service.batching.max_batch_size, service.batching.max_wait, service.timeout
    if service.max_in_flight < size:
        yield (
            f"max_in_flight {service.max_in_flight} lets no more requests into a replica, so requests are never put together up to "
            f"max_batch_size {size}; leave max_in_flight out, or write {size} or more"
        )
    if wait and size == 1:
        yield f"max_wait {format_duration(wait)} has no effect with max_batch_size 1: a batch is full with the first request"
    if wait + service.device_time >= timeout:
        yield (
            f"max_wait {format_duration(wait)} and device_time {format_duration(service.device_time)} leave nothing of the timeout "
            f"{format_duration(timeout)}: no request can be answered"
        )
        return
    rows = service.batching.chunk_rows
    chunks = -(-service.max_rows // rows)
    if chunks * service.device_time > timeout:
        fitting = int(timeout / service.device_time) * rows
        yield (
            f"a request of max_rows {service.max_rows} rows takes {chunks} batches of {format_duration(service.device_time)} each, longer "
            f"than the timeout {format_duration(timeout)}; write max_rows: {fitting} or less, or a greater max_batch_size"
        )
