"""The exceptions of the package; `status` is an accelc_status by name."""

STATUS = ("OK", "EINVAL", "ESHAPE", "EDTYPE", "ESPACE", "ENOMEM", "EDATA", "EBUSY", "EDEVICE", "ECPU", "EABI", "ECANCEL")


class Error(RuntimeError):
    """A compiled model cannot be loaded or run."""

    def __init__(self, message, status=None):
        super().__init__(message)
        self.status = STATUS[status] if isinstance(status, int) and status < len(STATUS) else status


class CompileError(Error):
    """accelc refused a model; the message is what it wrote."""
