"""Step 1: renders pages of a PDF to raw pixels, with the grain of a scanned page.

Without the grain a page is one long run of white, and what is measured is how well a transport compresses that.
"""
import subprocess

import numpy as np

import pages

GRAIN = 4  # levels of 255, up and down


def main(params, volume):
    document = bytes(volume.read(params["pdf"]))
    names = []
    for number in range(params["first"], params["first"] + params["count"]):
        rendered = subprocess.run(["pdftoppm", "-r", str(params["dpi"]), "-f", str(number), "-l", str(number), "-"],
                                  input=document, stdout=subprocess.PIPE, check=True).stdout
        names.append(f"pages/page-{number:03}.ppm")
        volume.write(names[-1], pages.encode(scanned(pages.decode(rendered), number)))
    return {"pdf": params["pdf"], "pages": names}


def scanned(picture, seed):
    noise = np.frombuffer(np.random.default_rng(seed).bytes(picture.size), np.uint8) % (2 * GRAIN + 1)
    darkened = np.clip(picture, 2 * GRAIN, 255) - 2 * GRAIN
    return darkened + noise.reshape(picture.shape)
