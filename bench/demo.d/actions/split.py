"""Step 1: renders pages of a PDF to raw pixels."""
import subprocess


def main(params, volume):
    document = bytes(volume.read(params["pdf"]))
    names = []
    for number in range(params["first"], params["first"] + params["count"]):
        rendered = subprocess.run(["pdftoppm", "-r", str(params["dpi"]), "-f", str(number), "-l", str(number), "-"],
                                  input=document, stdout=subprocess.PIPE, check=True).stdout
        names.append(f"pages/page-{number:03}.ppm")
        volume.write(names[-1], rendered)
    return {"pdf": params["pdf"], "pages": names}
