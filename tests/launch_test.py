"""What the scripts in launch/ would do, and what they do where their tools are at hand."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
ON_TPU = "gcloud compute tpus tpu-vm"


def call(*command, **environment):
    return subprocess.run(
        command,
        cwd="/",  # they find the project themselves
        env=os.environ | {"ZONE": "us-east5-b"} | environment,
        capture_output=True,
        text=True,
    )


def dry_run(name, *arguments, **environment):
    done = call(LAUNCH / name, "--dry-run", *arguments, **environment)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(path):
    assert call("bash", "-n", path).returncode == 0
    if shutil.which("shellcheck"):
        done = call("shellcheck", "--external-sources", f"--source-path={ROOT}", "-s", "bash", path)
        assert done.returncode == 0, done.stdout


def test_the_gpus_of_one_host():
    assert dry_run("gpu.sh", "--config=configs/rqvae.py:beauty", "--config.data.dir=my data") == [
        "exec python -m genrec_jax.main --config=configs/rqvae.py:beauty "
        r"--config.data.dir=my\ data"
    ]
    if not shutil.which("nvidia-smi"):
        done = call(LAUNCH / "gpu.sh")
        assert done.returncode == 2
        assert done.stderr.startswith("error: no nvidia-smi on PATH") and done.stdout == ""


def test_a_slurm_job():
    assert dry_run("slurm.sbatch", "--config=configs/rqvae.py", SLURM_JOB_ID="17") == [
        "srun --wait=120 .venv/bin/python -m genrec_jax.main --config=configs/rqvae.py",
        "on SIGUSR1 or SIGTERM:",
        "scancel --signal=TERM 17",
        "on status 75:",
        "scontrol requeue 17",
    ]
    options = re.findall(
        r"^#SBATCH --([\w-]+)(?:=(.*))?$", (LAUNCH / "slurm.sbatch").read_text(), re.M
    )
    options = dict(options)
    assert options["ntasks-per-node"] == "1" and options["signal"] == "B:USR1@300"
    assert {"requeue", "nodes", "gpus-per-node", "time", "output"} <= options.keys()


@pytest.mark.skipif(not shutil.which("sbatch"), reason="Slurm's client is not installed")
def test_slurm_knows_all_options_of_the_job(tmp_path):
    conf = "ClusterName=none\nSlurmctldHost=localhost\nAuthType=auth/none\nGresTypes=gpu\n"
    conf += "MessageTimeout=1\nSlurmctldPort=9\n"  # where nobody answers
    (tmp_path / "slurm.conf").write_text(
        conf + "NodeName=localhost Gres=gpu:8\nPartitionName=all Nodes=localhost\n"
    )
    (tmp_path / "wrong").write_text("#!/bin/bash\n#SBATCH --no-such-option\n")
    said = [
        call("sbatch", "--test-only", path, SLURM_CONF=str(tmp_path / "slurm.conf")).stderr
        for path in (LAUNCH / "slurm.sbatch", tmp_path / "wrong")
    ]
    assert "unrecognized option" in said[1]
    assert "Unable to contact slurm controller" in said[0]  # whom it asks once it has read all


@pytest.fixture
def slurm(tmp_path):
    """Gives a function that starts the job where three programs stand in for Slurm's."""
    programs = {
        "srun": 'trap "sleep 0.2; exit 75" TERM; echo $$ >started; [ "$STATUS" ] && exit $STATUS\n'
        "while true; do sleep 0.05; done",
        "scancel": '[ "$*" = "--signal=TERM 17" ] && kill -TERM $(cat started)',
        "scontrol": 'echo "$@" >scontrol.txt',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "launch").symlink_to(LAUNCH)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "17"}

    def start(status=""):
        job = subprocess.Popen(
            ["bash", LAUNCH / "slurm.sbatch"], env=os.environ | environment | {"STATUS": status}
        )
        started = tmp_path / "started"
        while not started.exists() or not started.read_text():
            time.sleep(0.01)
        return job

    return tmp_path, start


@pytest.mark.parametrize("numbers", [[signal.SIGUSR1], [signal.SIGUSR1, signal.SIGTERM]])
def test_a_job_that_is_signalled_saves_and_is_queued_again(slurm, numbers):
    folder, start = slurm
    job = start()
    for number in numbers:
        job.send_signal(number)
        time.sleep(0.05)
    assert job.wait(timeout=20) == 75
    assert (folder / "scontrol.txt").read_text() == "requeue 17\n"


@pytest.mark.parametrize("status", [0, 2])
def test_a_job_that_ends_is_not_queued_again(slurm, status):
    folder, start = slurm
    assert start(str(status)).wait(timeout=20) == status
    assert not (folder / "scontrol.txt").exists()


def test_a_tpu_from_creation_to_deletion():
    assert dry_run("tpu_pod.sh", "create", "pod", SPOT="1", TYPE="v5p-32") == [
        f"{ON_TPU} create pod --zone=us-east5-b --accelerator-type=v5p-32 "
        "--version=v2-alpha-tpuv5-lite --spot"
    ]
    archive, sent, unpacked = dry_run("tpu_pod.sh", "copy", "pod", PROJECT="mine")
    assert archive == "git archive --output=FOLDER/genrec_jax.tar.gz HEAD"
    where = "--zone=us-east5-b --project=mine"
    assert sent == f"{ON_TPU} scp FOLDER/genrec_jax.tar.gz pod: {where} --worker=all"
    assert unpacked.startswith(f"{ON_TPU} ssh pod {where} --worker=all ")
    assert dry_run("tpu_pod.sh", "logs", "pod", "logs") == [
        "mkdir -p logs",
        f"{ON_TPU} scp pod:genrec_jax/run.log logs/pod.log --zone=us-east5-b --worker=0",
    ]
    assert dry_run("tpu_pod.sh", "delete", "pod") == [
        f"{ON_TPU} delete pod --zone=us-east5-b --quiet"
    ]


def test_what_a_tpu_runs_arrives_word_by_word(tmp_path):
    arguments = ["--config=configs/a.py:beauty", "--config.sizes=(1, 2)", "--config.text=it's $5"]
    (line,) = dry_run("tpu_pod.sh", "run", "pod", *arguments)
    # Once for this shell, then for that of the host, on which a program prints its arguments.
    host = tmp_path / "genrec_jax"
    (host / ".venv/bin").mkdir(parents=True)
    (host / ".venv/bin/python").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (host / ".venv/bin/python").chmod(0o755)
    ssh = 'gcloud() { bash -c "${!##--command=}"; }; '
    subprocess.run(["bash", "-c", f"{ssh}{line}; wait"], cwd=tmp_path, check=True)
    deadline = time.monotonic() + 20
    while not (log := host / "run.log").exists() or log.read_text().count("\n") < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert log.read_text().splitlines() == ["-m", "genrec_jax.main", *arguments]


@pytest.mark.parametrize(
    "arguments, zone, message",
    [
        ([], "z", "error: no command ''"),
        (["drop", "pod"], "z", "error: no command 'drop'"),
        (["create", "--config=a"], "z", "error: '--config=a' is no name of a TPU"),
        (["create", "pod"], "", "error: no ZONE in the environment"),
    ],
)
def test_mistakes_about_tpus(arguments, zone, message):
    done = call(LAUNCH / "tpu_pod.sh", *arguments, ZONE=zone)
    assert done.returncode == 2 and done.stderr.startswith(message) and done.stdout == ""


@pytest.mark.parametrize(
    "number, accelerator, resource", [(0, "tpu", "google.com/tpu"), (1, "gpu", "nvidia.com/gpu")]
)
def test_the_jobsets_have_what_a_restart_needs(number, accelerator, resource):
    jobs = list(yaml.safe_load_all((LAUNCH / "gke_jobset.yaml").read_text()))
    assert len(jobs) == 2
    job = jobs[number]
    assert (job["apiVersion"], job["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert job["metadata"]["labels"] == {"accelerator": accelerator}
    name = job["metadata"]["name"]
    policy = job["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 100
    assert policy["rules"][0]["action"] == "FailJobSet"
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    (workers,) = job["spec"]["replicatedJobs"]
    spec = workers["template"]["spec"]
    assert spec["parallelism"] == spec["completions"] > 1 and spec["backoffLimit"] == 0
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # as a podFailurePolicy demands
    assert pod["terminationGracePeriodSeconds"] >= 60
    (container,) = pod["containers"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    codes = {"containerName": container["name"], "operator": "In", "values": [2]}
    assert rule == {"action": "FailJob", "onExitCodes": codes}
    assert container["resources"]["limits"][resource] > 0
    assert container["command"] == ["python", "-m", "genrec_jax.main"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    arguments = dict(argument.split("=", 1) for argument in container["args"])
    assert (ROOT / arguments["--config"].partition(":")[0]).is_file()
    assert arguments["--workdir"].startswith("/shared/")
    if accelerator == "gpu":
        assert arguments["--num_processes"] == str(spec["completions"])
        assert arguments["--process_id"] == "$(JOB_COMPLETION_INDEX)"
        host = f"{name}-{workers['name']}-0-0.{name}"  # the first pod of the first job
        assert arguments["--coordinator"].rpartition(":")[0] == host
