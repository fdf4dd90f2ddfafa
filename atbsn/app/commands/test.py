"""Denoise pictures: ``python test.py -opt options/test/test_folder.yml --input FOLDER_OR_FILE --output FOLDER``."""

from argparse import Namespace
from pathlib import Path

from atbsn.data import build_dataset
from atbsn.engine.build import build_sets, build_test_denoiser, results_folder
from atbsn.engine.inference.folder import denoise_set
from atbsn.options import load_options
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> int:
    options = load_options(arguments.opt, arguments.set)
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)
    if arguments.input:
        sets = {Path(arguments.input).stem: build_dataset({"type": "NoisyFolder", "dataroot": arguments.input})}
    else:
        sets = build_sets(options, "test")
    if not sets:
        raise UserError(f"{arguments.opt}: datasets: no entry begins with 'test'; add one, or give --input")
    if options.path.pretrain_network is None:
        raise UserError(f"{arguments.opt}: path.pretrain_network: missing; name the weights to denoise with")
    denoiser = build_test_denoiser(options, device, "test")
    failures = 0
    for name, images in sets.items():
        folder = results_folder(options) / name
        if arguments.output:
            folder = Path(arguments.output) / (name if len(sets) > 1 else "")
        failed = denoise_set(images, denoiser, folder, f"denoise {name}")
        logger.info("%s: %d pictures in %s", name, len(images) - failed, folder)
        failures += failed
    if failures:
        logger.error("%d pictures could not be done; see above", failures)
    return 2 if failures else 0
