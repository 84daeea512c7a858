"""SIGINT and SIGTERM end a run with a checkpoint, from which it goes on to the bit."""

import os
import signal

import pytest
from detectron2.engine import hooks
from helpers.processes import run_python
from helpers.same_runs import check_same
from helpers.tiny_runs import build

from focal_retina.training.interruption import interruption, listening

ENDING = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    build(folder).run()
    return folder


def interrupt(folder, iteration, number, **options):
    """Train until a signal comes in the step of an iteration; return the status of the end."""
    trainer = build(folder, **options)

    def send(trainer):
        if trainer.iter == iteration:
            os.kill(os.getpid(), number)

    trainer.register_hooks([hooks.CallbackHook(before_step=send)])
    with listening(), pytest.raises(SystemExit) as ended:
        trainer.run()
    return ended.value.code


@pytest.mark.parametrize("iteration", [0, 3, 5, 11])
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_the_run_with_a_checkpoint_that_goes_on_to_the_bit(
    unbroken, tmp_path, number, iteration
):
    assert interrupt(tmp_path, iteration, number) == 128 + number
    newest = {3: "model_0000003.pth", 11: "model_final.pth"}.get(iteration, "model_interim.pth")
    assert (tmp_path / "last_checkpoint").read_text() == newest
    build(tmp_path).run()
    check_same(tmp_path, unbroken)
    assert {x.name for x in tmp_path.glob("*.pth")} == {x.name for x in unbroken.glob("*.pth")}


def test_several_interruptions_are_as_none(unbroken, tmp_path):
    for iteration in (1, 2, 6, 9):
        interrupt(tmp_path, iteration, signal.SIGTERM)
    build(tmp_path).run()
    check_same(tmp_path, unbroken)


def test_a_signal_passed_on_by_the_launching_process_does_not_count_twice(tmp_path, capfd):
    with listening():
        interruption.is_saved = False
        for number in (signal.SIGTERM, signal.SIGUSR2):
            os.kill(os.getpid(), number)
        assert interruption.signal == signal.SIGTERM
    assert "SIGTERM ends the run after this iteration" in capfd.readouterr().err


def test_handlers_are_those_of_before_after_the_run():
    before = [signal.getsignal(number) for number in ENDING]
    with listening():
        pass
    assert [signal.getsignal(number) for number in ENDING] == before


WAITING = """
import os, signal, sys
from focal_retina.training.interruption import interruption, listening
with listening():
    interruption.is_saved = sys.argv[1] == "saved"
    for name in sys.argv[2:]:
        os.kill(os.getpid(), getattr(signal, name))
print("alive")
"""


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        (["saved", "SIGINT"], 130, "ended by SIGINT, nothing is lost: --resume goes on"),
        (["saved", "SIGTERM"], 143, "ended by SIGTERM, nothing is lost: --resume goes on"),
        (["unsaved", "SIGTERM", "SIGTERM"], 143, "ended by SIGTERM, at once: --resume goes on"),
        (["unsaved", "SIGINT", "SIGTERM"], 143, "ended by SIGTERM, at once: --resume goes on"),
    ],
)
def test_with_nothing_to_save_or_asked_again_the_process_ends_at_once(arguments, status, said):
    ended = run_python("-c", WAITING, *arguments)
    assert ended.returncode == status
    assert ended.stderr.strip().splitlines()[-1].endswith(said)
    assert ended.stdout == ""
