"""Step 3: contact sheet, archive and report, which is checked against the text that the PDF itself holds."""
import hashlib
import io
import json
import re
import subprocess
import tarfile

from PIL import Image

import pages

THUMBNAIL = (306, 396)
COLUMNS = 4
RECALL_MIN = 0.9  # of the words of four letters and more
WORD = re.compile(r"[a-z]{4,}")


def main(params, volume):
    pictures = [(name, Image.fromarray(pages.decode(volume.read(name)))) for name in params["annotated"]]
    outputs = {"sheet.png": contact_sheet([picture for _, picture in pictures]),
               "pages.tar": archive(pictures),
               "report.json": report(params, volume)}
    total = hashlib.sha256()
    for name in sorted(outputs):
        volume.write(f"result/{name}", outputs[name])
        total.update(hashlib.sha256(outputs[name]).digest())
    read_back = hashlib.sha256()
    for name in sorted(outputs):
        read_back.update(hashlib.sha256(volume.read(f"result/{name}")).digest())
    if read_back.digest() != total.digest():
        raise RuntimeError("the result reads differently from what was written")
    recall = json.loads(outputs["report.json"])["recall"]
    if recall < RECALL_MIN:
        raise RuntimeError(f"only {recall:.0%} of the document's words were read, less than {RECALL_MIN:.0%}")
    return {"sha256": total.hexdigest(), "recall": recall, "files": [f"result/{name}" for name in sorted(outputs)]}


def contact_sheet(pictures):
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * THUMBNAIL[0], rows * THUMBNAIL[1]), "white")
    for i, picture in enumerate(pictures):
        place = (i % COLUMNS * THUMBNAIL[0], i // COLUMNS * THUMBNAIL[1])
        sheet.paste(picture.resize(THUMBNAIL, Image.Resampling.BOX), place)
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=6)
    return out.getvalue()


def archive(pictures):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, picture in sorted(pictures):
            jpeg = io.BytesIO()
            picture.save(jpeg, "JPEG", quality=85)
            member = tarfile.TarInfo(name.replace(".ppm", ".jpg"))
            member.size = jpeg.tell()
            jpeg.seek(0)
            tar.addfile(member, jpeg)
    return out.getvalue()


def report(params, volume):
    document = bytes(volume.read(params["pdf"]))
    rows, found_all, wanted_all = [], 0, 0
    for name in params["findings"]:
        number = int(re.search(r"(\d+)\.json$", name).group(1))
        lines = json.loads(bytes(volume.read(name)))
        wanted = WORD.findall(text_of(document, number).lower())
        read = re.sub(r"[^a-z]", "", "".join(line["text"] for line in lines).lower())
        found = sum(word in read for word in wanted)
        rows.append({"page": number, "lines": len(lines), "words": len(wanted), "found": found})
        found_all, wanted_all = found_all + found, wanted_all + len(wanted)
    recall = found_all / wanted_all if wanted_all else 0.0
    return json.dumps({"pages": rows, "recall": round(recall, 4)}, sort_keys=True, indent=1).encode()


def text_of(document, number):
    return subprocess.run(["pdftotext", "-f", str(number), "-l", str(number), "-", "-"],
                          input=document, stdout=subprocess.PIPE, check=True, text=False).stdout.decode()
