"""``atbsn train``: train a method on noisy pictures."""

from argparse import Namespace

from atbsn.engine.training.experiment import Experiment
from atbsn.engine.training.interrupt import StopSignal
from atbsn.engine.training.pace import within_minutes
from atbsn.engine.training.setup import build_trainer, build_training, find_state, is_finished
from atbsn.options import load_options
from atbsn.utils import dist
from atbsn.utils.log import logger


def main(arguments: Namespace) -> int:
    options = load_options(arguments.opt, arguments.set, arguments.debug)
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)
    state = find_state(options, arguments.auto_resume)
    if arguments.minutes is not None:
        options = within_minutes(options, arguments.minutes, device, state)
    if state is not None and is_finished(state, options):
        logger.info("finished: %s is the last of its iterations", state.path)
        return 0
    training = build_training(options, device, state)
    with Experiment(options, state and state.path) as experiment, StopSignal() as stop:
        trainer = build_trainer(training, experiment)
        trainer.train(stop)
    if stop.received:
        logger.info("stopped by %s, saved in %s; continue with --auto_resume", stop.received.name, experiment.states)
        return 128 + stop.received
    logger.info("done: %s", experiment.models / "net_latest.pth")
    return 0
