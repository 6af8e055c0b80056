"""Made-up environments, as clusters make them."""

import importlib.machinery

import pytest

from genrec_jax import clusters
from genrec_jax.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "70000",
    "SLURM_NTASKS": "3",
    "SLURM_STEP_NODELIST": "gpu[007,012-13]",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
TPU = {"TPU_ML_PLATFORM": "JAX"}  # which JAX sets on a TPU's host
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}
ADDRESS = {"JAX_COORDINATOR_ADDRESS": "job-0-0.job:8476", "JAX_NUM_PROCESSES": "4"}


def find(environment, coordinator=None, num_processes=None, process_id=None):
    return clusters.find(
        environment,
        coordinator=coordinator,
        num_processes=num_processes,
        process_id=process_id,
    )


def place(arguments):
    """Returns address, number of processes, index and devices, for JAX to detect nothing more."""
    assert arguments.pop("cluster_detection_method") == "deactivate"
    return tuple(arguments.values())


def test_the_names_are_those_of_jax():
    assert list(find({}, "a:1", 2, 0)) == [
        "coordinator_address",
        "num_processes",
        "process_id",
        "local_device_ids",
        "cluster_detection_method",
    ]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOSTNAME": "laptop", "CUDA_VISIBLE_DEVICES": "0,1"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"},  # a script without srun
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "0"},
        POD,  # without the package kubernetes
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        TPU | {"TPU_WORKER_HOSTNAMES": "localhost"},
        TPU | {"TPU_SKIP_MDS_QUERY": "1"},
        TPU | {"JAX_PLATFORMS": "cpu"},
        ADDRESS | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
        {"JAX_COORDINATOR_ADDRESS": "a:1"},  # JAX alone knows what this is for
    ],
)
def test_one_process_joins_nothing(environment):
    assert find(environment) is None


def test_flags_have_precedence():
    assert place(find(SLURM, "host-a:1234", 2, 1)) == ("host-a:1234", 2, 1, None)
    assert find(SLURM, "host-a:1234", 1, 0) is None


@pytest.mark.parametrize(
    "hosts, address",
    [
        ("gpu[007,012-13]", "gpu007:61808"),
        ("gpu[3-5]", "gpu3:61808"),
        ("gpu[3-5]-ib,other", "gpu3-ib:61808"),
        ("rack[1-2]gpu[07-9],other[1]", "rack1gpu07:61808"),
        ("node-a", "node-a:61808"),
        ("node-a,node-b", "node-a:61808"),
    ],
)
def test_slurm_has_its_coordinator_on_the_first_host(hosts, address):
    found = find(SLURM | {"SLURM_STEP_NODELIST": hosts})
    assert place(found) == (address, 3, 2, None)  # 70000 % 4096 = 368, above 61440


def test_slurm_tasks_that_share_a_host_have_a_gpu_each():
    shared = SLURM | {"SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    assert place(find(shared | {"JAX_COORDINATOR_PORT": "99"})) == ("gpu007:99", 6, 5, [1])


@pytest.mark.parametrize(
    "more",
    [
        {},  # a machine with a metadata server
        {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_SKIP_MDS_QUERY": "1"},
        {"TPU_PROCESS_ADDRESSES": "a:1,b:1"},
        {"TPU_PROCESS_ADDRESSES_PATH": "/addresses"},
        {"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"},
    ],
)
def test_on_tpus_jax_finds_out(more):
    assert find(TPU | more | {"JAX_PLATFORMS": "tpu,cpu"}) == {}


def test_pods_are_told_by_their_manifest():
    assert place(find(POD | ADDRESS)) == ("job-0-0.job:8476", 4, 1, None)
    assert place(find(POD | ADDRESS | {"JAX_PROCESS_ID": "3"}))[2] == 3


def test_pods_whose_jax_can_ask_the_cluster_let_it(monkeypatch):
    spec = importlib.machinery.ModuleSpec("kubernetes", None)
    monkeypatch.setattr(clusters.importlib.util, "find_spec", lambda name: spec)
    assert find(POD) == {"cluster_detection_method": "k8s"}
    assert find({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is None  # no indexed job


@pytest.mark.parametrize(
    "environment, flags, message",
    [
        ({}, ("a:1", 2, None), "--process_id is missing: give all of --coordinator, --num_pro"),
        ({}, (None, 2, 0), "--coordinator is missing"),
        ({}, ("a", 2, 0), "--coordinator=a must be the host and port of process 0, HOST:PORT"),
        ({}, ("a:65536", 2, 0), "--coordinator=a:65536 must be the host and port of process 0"),
        ({}, ("a:1", 2, 2), "--process_id=2 must be below --num_processes=2"),
        ({}, ("a:1", 2, -1), "--process_id=-1 must be a whole number from 0 on"),
        (ADDRESS, (), "JAX_PROCESS_ID is missing: give all of JAX_COORDINATOR_ADDRESS, "),
        (POD | {"JAX_NUM_PROCESSES": "2"}, (), "JAX_COORDINATOR_ADDRESS is missing"),
        (POD | ADDRESS | {"JAX_NUM_PROCESSES": "two"}, (), "JAX_NUM_PROCESSES=two must be a whole"),
    ],
)
def test_what_makes_no_sense_is_named(environment, flags, message):
    with pytest.raises(UserError) as error:
        find(environment, *flags)
    assert message in str(error.value)
