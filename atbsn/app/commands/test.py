"""Denoise pictures: ``atbsn test -opt test_folder.yml --input FOLDER_OR_FILE --output FOLDER``."""

from argparse import Namespace
from functools import partial
from pathlib import Path

import yaml

from atbsn.app.clean import clean_picture
from atbsn.data.base import ImageSet
from atbsn.data.folder import NoisyPictures
from atbsn.engine.build import build_sets, build_test_denoiser, results_folder
from atbsn.engine.inference.about import describe_denoiser, fingerprint
from atbsn.engine.inference.bulk.run import BulkRun, Outcome
from atbsn.engine.inference.bulk.shards import own_shard
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.folder import denoise_set
from atbsn.engine.inference.samples import watched
from atbsn.engine.provenance import commit, versions
from atbsn.options import Options, load_options
from atbsn.pictures import read_picture, write_picture
from atbsn.pictures.formats import SUFFIXES, WRITTEN
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.log import logger, share_bar


def main(arguments: Namespace) -> int:
    options = load_options(arguments.opt, arguments.set)
    bulk = any(Path(root).is_dir() and not Path(root, "data.mdb").is_file() for root in arguments.input or ())
    if (arguments.resume or arguments.shard) and not bulk:
        raise UserError("--resume and --shard go with --input FOLDER; name the folder, or leave them out")
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)
    if bulk:
        sets: dict[str, ImageSet] = {}
    elif arguments.input:
        sets = {Path(arguments.input[0]).stem: NoisyPictures(arguments.input)}
    else:
        sets = build_sets(options, "test")
    source = " + ".join(arguments.opt)
    if not sets and not bulk:
        raise UserError(f"{source}: datasets: no entry begins with 'test'; add one, or give --input")
    if options.path.pretrain_network is None:
        raise UserError(f"{source}: path.pretrain_network: missing; name the weights to denoise with")
    denoiser = build_test_denoiser(options, device, "test")
    if bulk:
        return _denoise_folders(denoiser, options, arguments)
    if arguments.output and _is_file(arguments):
        return _denoise_one(denoiser, Path(arguments.input[0]), Path(arguments.output))
    failed: list[str] = []
    for name, images in sets.items():
        folder = results_folder(options) / name
        if arguments.output:
            folder = Path(arguments.output) / (name if len(sets) > 1 else "")
        if len(images) == 1:  # which may be a large one
            with share_bar(f"denoise {name}") as show:
                missing = denoise_set(images, watched(denoiser, show), folder, "pictures")
        else:
            missing = denoise_set(images, denoiser, folder, f"denoise {name}")
        logger.info("%s: %d pictures in %s", name, len(images) - len(missing), folder)
        failed += missing
    if failed:
        logger.error("%d could not be done, for reasons given above: %s", len(failed), ", ".join(failed))
    return 2 if failed else 0


def _denoise_folders(denoiser: Denoiser, options: Options, arguments: Namespace) -> int:
    roots = [Path(root) for root in arguments.input]
    folder = Path(arguments.output) if arguments.output else results_folder(options) / roots[0].stem
    about = describe_denoiser(denoiser, options.path.pretrain_network)
    settings, patient = fingerprint(about), dist.patient_group()
    resume = arguments.resume or dist.restarted()
    run = BulkRun(roots, partial(clean_picture, denoiser), folder, settings, own_shard(arguments.shard), resume)
    if dist.is_main():
        about |= {"commit": commit(), "versions": versions()}
        write_text(folder / "manifest" / f"about-{settings}.yml", yaml.safe_dump(about, sort_keys=False, width=110))
    outcome = run.run(f"denoise {roots[0].name}")
    outcomes = dist.gather(outcome, patient)
    failed = sum(each.failed for each in outcomes)
    if dist.is_main():
        _report(outcomes, folder)
    if outcome.failed:
        more = outcome.failed - len(run.failed_first)
        names = ", ".join(run.failed_first) + (f" and {more} more" if more else "")
        logger.error("%d pictures could not be done, for reasons in %s: %s", outcome.failed, run.failures, names)
    return 2 if failed else 0


def _report(outcomes: list[Outcome], folder: Path) -> None:
    done, skipped = sum(each.done for each in outcomes), sum(each.skipped for each in outcomes)
    before = f", {skipped:,} were done before" if skipped else ""
    logger.info("%s: %s pictures done%s", folder, f"{done:,}", before)
    for reason, number in outcomes[0].passed_over.most_common():
        if number:
            logger.info("passed over: %s, %s", f"{number:,}", reason)


def _is_file(arguments: Namespace) -> bool:
    """Whether ``--output`` names the file for a single picture, not a folder."""
    output, inputs = Path(arguments.output), arguments.input or []
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    return single and output.suffix.lower() in SUFFIXES and not output.is_dir()


def _denoise_one(denoiser: Denoiser, source: Path, target: Path) -> int:
    if target.suffix.lower() not in WRITTEN:
        raise UserError(f"--output {target}: camera RAW is not written; name a .tif file")
    if target.resolve() == source.resolve():
        raise UserError(f"{source}: would be overwritten by its denoised picture; give another --output")
    with share_bar(f"denoise {source.name}") as show:
        clean = clean_picture(denoiser, read_picture(source), source.stem, show)
    write_picture(target, clean)
    logger.info("%s: denoised, in %s", source, target)
    return 0
