"""How much memory a function takes at its peak, for tests on Linux."""


def _memory(field):
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines[field].split()[0]) / 1024


def peak_mebibytes(function):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # Restart the peak from what is resident now.
    before = _memory("VmRSS")
    function()
    return _memory("VmHWM") - before
