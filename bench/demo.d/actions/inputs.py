"""Which files each action reads: for a mode that has to fetch them first."""


def split(params):
    return [params["pdf"]]


def infer(params):
    return params["pages"]


def merge(params):
    return [params["pdf"], *params["findings"], *params["annotated"]]
