"""List the commands:  python -m menet_jax [--version]"""

import sys

import menet_jax

COMMANDS = {
    "train": "train a network, on the built-in images or on your own",
    "predict": "write saliency maps of photographs",
    "demo": "a page for the browser: photographs, their maps, noise, sensitivity",
    "evaluate": "score runs, and other methods' maps, in one table",
    "robustness": "scores on distorted images; the Jacobian and its bound; attacks; certificates",
    "draw": "the paper's figures of images",
    "data": "check datasets, and look at what the network is fed",
    "export": "a trained network as one file",
    "authors": "the authors' PyTorch weights in, ours out",
    "benchmark": "how fast things are here",
}


def main(arguments: list[str]) -> int:
    """Print the list of commands; the exit status: 0, or 2 for arguments other than --version or --help."""
    if arguments == ["--version"]:
        print(f"menet_jax {menet_jax.__version__}")
        return 0
    lines = [f"  python -m menet_jax.{name:11} {about}" for name, about in COMMANDS.items()]
    text = "\n".join(["Commands; each takes --help:", *lines])
    if arguments in ([], ["--help"], ["-h"]):
        print(text)
        return 0
    print(f"error: python -m menet_jax {' '.join(arguments)}: no such command\n{text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
