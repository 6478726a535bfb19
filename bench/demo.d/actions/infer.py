"""Step 2: finds and reads the text on each page with two neural networks; writes it, and the page with it marked."""
import json

import cv2
import numpy as np
from rapidocr_onnxruntime import RapidOCR

import pages

THREADS = 2  # fixed, so that sums are added in the same order everywhere


def main(params, volume):
    engine = RapidOCR(intra_op_num_threads=THREADS, inter_op_num_threads=1)
    findings, annotated = [], []
    for name in params["pages"]:
        picture = pages.decode(volume.read(name))
        lines, _ = engine(np.ascontiguousarray(picture[:, :, ::-1]), use_cls=False)
        found = [{"box": np.rint(box).astype(int).tolist(), "text": text, "score": round(float(score), 3)}
                 for box, text, score in lines or []]
        base = name.rpartition("/")[2].removesuffix(".ppm")
        findings.append(f"findings/{base}.json")
        volume.write(findings[-1], json.dumps(found, sort_keys=True, indent=1).encode())
        annotated.append(f"annotated/{base}.ppm")
        volume.write(annotated[-1], pages.encode(mark(picture, found)))
    return {"pdf": params["pdf"], "findings": findings, "annotated": annotated}


def mark(picture, found):
    picture = picture.copy()
    for line in found:
        colour = (0, 160, 0) if line["score"] >= 0.9 else (220, 80, 0)
        cv2.polylines(picture, [np.array(line["box"], np.int32)], True, colour, 3)
    return picture
