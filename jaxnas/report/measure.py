"""What networks were compared by, in words."""

from jaxnas.report.model import ReportData

_NAMES = {"f1": "F1", "auc": "area under the ROC curve"}


def metric_name(data: ReportData) -> str:
    """ "accuracy", "balanced accuracy", "F1", ..."""
    return _NAMES.get(data.metric, data.metric.replace("_", " "))


def is_accuracy(data: ReportData) -> bool:
    """Whether networks were compared by accuracy."""
    return data.metric == "accuracy"


def remark(data: ReportData) -> str:
    """A sentence to stand where accuracies are shown of networks that were compared by something else."""
    if is_accuracy(data):
        return ""
    return f"Networks were compared by their {metric_name(data)}; what is shown here is accuracy."
