"""``atbsn prepare``: cut data sets into patches that are fast to read, and check data sets."""

from argparse import Namespace

from atbsn.data.store.free import build_free
from atbsn.data.store.known import check_known_set, prepare_set, reading_speed
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    if arguments.action == "check":
        logger.info("OK: %s", check_known_set(arguments.kind, arguments.dataroot, arguments.workers))
    elif arguments.action == "speed":
        size = arguments.patch_size
        speed = reading_speed(arguments.dataroot, size)
        text = "%s: %.0f patches of %dx%d a second in one process, %.0f in a second of its CPU time"
        logger.info(text, arguments.dataroot, speed.a_second, size, size, speed.a_cpu_second)
    elif arguments.action == "free":
        logger.info("%s", build_free(arguments.source, arguments.target))
    else:
        size, stride = arguments.size, arguments.stride or max(1, arguments.size // 2)
        if arguments.whole:
            size = stride = None
        num_patches, num_pictures = prepare_set(
            arguments.action, arguments.source, arguments.target, size, stride, arguments.codec, arguments.workers
        )
        logger.info("%s: %d patches of %d pictures, verified", arguments.target, num_patches, num_pictures)
