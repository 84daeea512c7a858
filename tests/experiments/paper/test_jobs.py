"""Jobs survive interruption and failing rows, and their report says what was measured."""

import csv
import json
import zipfile

import pytest
import yaml
from helpers.tiny_jobs import catalogs_restored, run_here

from experiments.paper.jobs import make_job, run_job
from experiments.paper.measured import load_measured, rank_correlation
from experiments.paper.preset import load_preset
from experiments.paper.report import measure_speeds, write_report
from experiments.paper.results import write_result
from experiments.paper.rows import select_rows
from experiments.paper.run_jobs import run_jobs
from experiments.paper_tables import main
from focal_retina.errors import TrainingError, UserError

pytestmark = pytest.mark.slow

TINY = """
preset: mini
shapes: {train_images: 4, val_images: 2, image_size: 64}
MODEL:
  FPN: {OUT_CHANNELS: 32}
  RETINANET: {NUM_CONVS: 1, SCORE_THRESH_TEST: 0.0, PRIOR_PROB: 0.3}
SOLVER: {MAX_ITER: 2, IMS_PER_BATCH: 2, BASE_LR: 0.00125}
"""
NAMES = ["1b-gamma-1", "1b-gamma-2", "1b-gamma-5"]


@pytest.fixture
def preset(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


def make_jobs(preset, output, names=NAMES, seeds=1):
    rows, preset = select_rows(names), load_preset(str(preset))
    return [make_job(r, seed, preset, output) for r in rows for seed in range(1, seeds + 1)]


def train_here(job, log):
    """What ``run_job`` does, without the seconds that a new process takes."""
    with catalogs_restored():
        run_here(*job.command[2:])


def run_all(jobs, run=train_here):
    lines = []
    return run_jobs(jobs, run=run, say=lines.append), lines


def test_jobs_interrupted_and_run_again_give_the_report_of_others(tmp_path, preset):
    def interrupted(job, log):
        if job.row.name == "gamma-2":
            raise KeyboardInterrupt
        train_here(job, log)

    whole, broken = (make_jobs(preset, tmp_path / name) for name in ("whole", "broken"))
    with pytest.raises(KeyboardInterrupt):
        run_all(broken, interrupted)
    for jobs, finished in ((whole, 0), (broken, 1)):
        failed, lines = run_all(jobs)
        assert failed == []
        assert lines[0] == f"3 runs, {finished} of them finished before"
    reports = [write_report(tmp_path / name).read_text() for name in ("whole", "broken")]
    assert reports[0] == reports[1]
    assert "not run" in reports[0]


def write_detections(job, metrics):
    """Write what a job leaves, in the place of the job."""
    (job.folder / "inference").mkdir()
    (job.folder / "inference/coco_instances_results.json").write_text("[1]")
    (job.folder / "metrics.json").write_text(json.dumps(metrics))


def test_finished_jobs_are_not_run_again_and_failed_ones_are(tmp_path, preset):
    def fail_once(job, log):
        ran.append(job.row.name)
        if len(ran) == 2:
            raise OSError("the disk is full")
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        write_detections(job, {f"bbox/{name}": 1.0 for name in names})

    ran, jobs = [], make_jobs(preset, tmp_path / "out")
    failed, lines = run_all(jobs, fail_once)
    assert [job.row.name for job in failed] == ["gamma-2"]
    assert "failed (the disk is full)" in lines[4]
    assert "left" in lines[2]
    assert "seed 1 failed: the disk is full" in write_report(tmp_path / "out").read_text()
    assert run_all(jobs, fail_once)[0] == []
    assert ran == ["gamma-1", "gamma-2", "gamma-5", "gamma-2"]


def test_a_bug_in_a_job_is_not_taken_for_its_failure(tmp_path, preset):
    def bug(job, log):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_all(make_jobs(preset, tmp_path / "out"), bug)


def test_a_command_that_fails_says_why_and_names_its_log(tmp_path, preset):
    (job,) = make_jobs(preset, tmp_path / "out", NAMES[:1])
    job.config_file.write_text("SOLVER: {NO_SUCH_KEY: 1}")
    with open(job.output_file, "w") as log, pytest.raises(TrainingError) as failure:
        run_job(job, log)
    assert "exit status 2: " in str(failure.value) and "NO_SUCH_KEY" in str(failure.value)
    assert f"(see {job.output_file})" in str(failure.value)


def test_a_folder_with_jobs_of_another_preset_is_refused(tmp_path, preset):
    make_jobs(preset, tmp_path / "out")
    preset.write_text(TINY.replace("MAX_ITER: 2", "MAX_ITER: 3"))
    with pytest.raises(UserError, match="another config"):
        make_jobs(preset, tmp_path / "out")


def write_results(jobs, aps):
    for job, ap in zip(jobs, aps, strict=True):
        origin = {"row": job.row.id, "seed": job.seed, "commit": "abc", "machine": {"CPU": "some"}}
        write_result(job.folder, {**origin, "status": "done", "metrics": {"AP": ap, "APl": None}})


def test_the_report_has_means_spreads_and_the_rank_correlation(tmp_path, preset):
    output = tmp_path / "out"
    jobs = make_jobs(preset, output, ["1b-gamma-0", "1b-gamma-1", "1b-gamma-5"], seeds=2)
    write_results(jobs, [10.0, 12.0, 30.0, 32.0, 20.0, 20.0])  # published 31.1, 33.7, 32.2
    report = write_report(output).read_text()
    assert "| 31.1 / 11.0 ± 1.4" in report and "| 32.2 / 20.0 ± 0.0" in report
    assert "published AP: 1.00 (3 of 7 rows)" in report
    assert "abc" in report and (output / "table_1b.png").stat().st_size > 1000
    with open(output / "report.csv") as file:
        lines = {(x["row"], x["metric"]): x for x in csv.DictReader(file)}
    assert float(lines["gamma-0", "AP"]["mean"]) == 11.0
    assert lines["gamma-2", "AP"]["notes"] == "not run"
    assert len(lines) == 3 * 35 + 7 * 10 + 6 * 2


def test_two_rows_have_no_rank(tmp_path, preset):
    write_results(make_jobs(preset, tmp_path / "out", NAMES[:2]), [10.0, 20.0])
    assert rank_correlation(load_measured(tmp_path / "out")) is None


def test_a_run_on_test_dev_leaves_the_archive_to_submit(tmp_path, preset):
    (job,) = make_jobs(preset, tmp_path / "out", ["2-R-101"])
    run_all([job], lambda job, log: write_detections(job, {"total_loss": 1.0}))
    (archive,) = job.folder.glob("*.zip")
    (name,) = zipfile.ZipFile(archive).namelist()
    assert name == "detections_test-dev2017_2-R-101-seed1_results.json"
    report = write_report(tmp_path / "out").read_text()
    assert f"submit {archive.name} to the COCO server" in report


def test_table_1e_is_timed_and_drawn(tmp_path, preset):
    output = tmp_path / "out"
    jobs = make_jobs(preset, output, ["1e-R-50-400"])
    assert run_all(jobs)[0] == []
    with catalogs_restored():
        measure_speeds(output)
    (measured,) = (r for r in load_measured(output) if r.results)
    assert measured.mean("ms") > 0
    assert f"{measured.mean('ms'):.1f}" in write_report(output).read_text()
    assert (output / "figure_2.png").stat().st_size > 1000


def test_the_commands_list_run_and_report(tmp_path, preset, capsys):
    output = ["--output", str(tmp_path / "out")]
    assert main(["run", "1b-gamma-2", "--preset", str(preset), *output]) == 0
    assert main(["report", *output]) == 0
    assert main(["list", *output]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len([line for line in listed if line.endswith("not run")]) == 46
    report = (tmp_path / "out/report.md").read_text()
    assert f"paper_tables run 1b-gamma-2 --preset {preset}" in report


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("size_facter: 0.5", "unknown key size_facter"),
        ("size_factor: big", "size_factor cannot be 'big'"),
        ("shapes: {train_images: 4}", "the keys of shapes are"),
        ("[1, 2]", "not a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_preset_is_refused(preset, content, sentence):
    preset.write_text(content)
    with pytest.raises(UserError, match=sentence):
        load_preset(str(preset))


def test_a_preset_of_other_data_takes_cocos_place(tmp_path, preset):
    names = {"TRAIN": ["mine_train"], "TEST": ["mine_val"]}
    preset.write_text(yaml.safe_dump({"DATASETS": names}))
    (job,) = make_jobs(preset, tmp_path / "out", ["1e-R-50-400"])
    content = yaml.safe_load(job.config_file.read_text())
    assert content["DATASETS"] == names
    assert content["INPUT"]["MIN_SIZE_TEST"] == 400
