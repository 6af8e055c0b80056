"""Whether this process is one of several, by flags or by what a cluster says of itself.

What JAX detects is left to it, but for two cases: on Slurm it gives a process one GPU even where
it is the only one of its host, and in Kubernetes it asks the cluster, which needs a package and
permissions that the environment does without.
"""

import importlib.util
import re
from collections.abc import Mapping
from typing import Any

from genrec_jax.errors import UserError

Arguments = dict[str, Any]  # of jax.distributed.initialize; what is missing JAX finds out


def find(
    environment: Mapping[str, str],
    *,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
) -> Arguments | None:
    """Returns how this process joins the others, None if there are none.

    Args:
        environment: as `os.environ` is once JAX is imported, which notes there that it runs on a
            TPU.
        coordinator, num_processes, process_id: flags, all given or none.

    Raises:
        UserError: if some of these are missing, or make no sense.
    """
    flags = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    if any(value is not None for value in flags.values()):
        return _explicit(flags)
    variables = {
        "JAX_COORDINATOR_ADDRESS": environment.get("JAX_COORDINATOR_ADDRESS"),
        "JAX_NUM_PROCESSES": environment.get("JAX_NUM_PROCESSES"),
        "JAX_PROCESS_ID": environment.get(
            "JAX_PROCESS_ID", environment.get("JOB_COMPLETION_INDEX")
        ),
    }
    if variables["JAX_NUM_PROCESSES"] is not None:
        return _explicit(variables)
    found = (detect(environment) for detect in (_slurm, _tpu, _kubernetes))
    return next((arguments for arguments in found if arguments is not None), None)


def _explicit(values: dict[str, str | int | None]) -> Arguments | None:
    """Returns the arguments that three flags or variables give: address, number and index."""
    names, (address, count, index) = list(values), values.values()
    for name, value in values.items():
        if value is None:
            raise UserError(f"{name} is missing: give all of {', '.join(names)}, or none")
    found = re.fullmatch(r"\S+:(\d+)", str(address))
    if not found or not 0 < int(found[1]) < 2**16:
        raise UserError(f"{names[0]}={address} must be the host and port of process 0, HOST:PORT")
    numbers = []
    for name, value in ((names[1], count), (names[2], index)):
        if not str(value).isdecimal():
            raise UserError(f"{name}={value} must be a whole number from 0 on")
        numbers.append(int(value))
    count, index = numbers
    if index >= count:
        raise UserError(f"{names[2]}={index} must be below {names[1]}={count}")
    return _arguments(address, count, index) if count > 1 else None


def _arguments(address: str, count: int, index: int, devices: list[int] | None = None) -> Arguments:
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "local_device_ids": devices,  # None for all of the host
        "cluster_detection_method": "deactivate",
    }


def _slurm(environment: Mapping[str, str]) -> Arguments | None:
    """Returns the place among the tasks of `srun`; a task alone on its host has all devices."""
    names = "JOB_ID", "STEP_NODELIST", "STEP_NUM_NODES", "STEP_NUM_TASKS", "PROCID", "LOCALID"
    if any(f"SLURM_{name}" not in environment for name in names):
        return None
    job, hosts, num_hosts, count, index, local = (environment[f"SLURM_{name}"] for name in names)
    if int(count) == 1:
        return None
    # Of lists such as `gpu[003,007-9],other`, `rack[1-2]gpu[3-4]` and `one,two` the first host.
    first = re.match(r"(\[[^\]]*\]|[^,\[])+", hosts)[0]
    first = re.sub(r"\[(\d+)[^\]]*\]", r"\1", first)
    port = environment.get("JAX_COORDINATOR_PORT", 61440 + int(job) % 4096)
    devices = None if count == num_hosts else [int(local)]
    return _arguments(f"{first}:{port}", int(count), int(index), devices)


def _tpu(environment: Mapping[str, str]) -> Arguments | None:
    """Returns no arguments but for a host that is a TPU's only one: JAX finds out what is what."""
    if "TPU_ML_PLATFORM" not in environment:
        return None
    if "tpu" not in environment.get("JAX_PLATFORMS", "tpu"):
        return None
    if "TPU_PROCESS_ADDRESSES_PATH" in environment:
        return {}
    hosts = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
    if hosts is None:  # of a machine that asks its metadata server, if there is one
        return None if "TPU_SKIP_MDS_QUERY" in environment else {}
    is_alone = "," not in hosts and environment.get("MEGASCALE_NUM_SLICES", "1") == "1"
    return None if is_alone else {}


def _kubernetes(environment: Mapping[str, str]) -> Arguments | None:
    """Returns that JAX shall ask the cluster, if this is an indexed job's pod and it can."""
    if not {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys():
        return None
    if importlib.util.find_spec("kubernetes") is None:  # the extra jax[k8s]
        return None
    return {"cluster_detection_method": "k8s"}
