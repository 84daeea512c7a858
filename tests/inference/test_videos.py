"""A video that is written is whole, or refused."""

import numpy as np
import pytest
from helpers.mounts import files_limited_to

from focal_retina.errors import UserError
from focal_retina.inference.videos import Video, write_video


def noise(count, height=64, width=96):
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(height, width, 3), dtype=np.uint8) for _ in range(count)]


def num_frames(path):
    return len(list(Video(str(path))))


@pytest.mark.parametrize(("count", "size"), [(1, (64, 96)), (7, (33, 47)), (12, (64, 96))])
def test_all_frames_can_be_read_again(tmp_path, count, size):
    write_video(tmp_path / "a.mp4", noise(count, *size), 25.0)
    assert num_frames(tmp_path / "a.mp4") == count


def test_a_full_disk_refuses_a_video_and_keeps_the_old_one(tmp_path):
    write_video(tmp_path / "a.mp4", noise(2), 25.0)
    with files_limited_to(30_000), pytest.raises(UserError, match="a.mp4 cannot be written"):
        write_video(tmp_path / "a.mp4", noise(40), 25.0)
    assert num_frames(tmp_path / "a.mp4") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_that_the_codec_leaves_out_refuse_the_video(tmp_path):
    with pytest.raises(UserError, match="3 of 5 frames"):
        write_video(tmp_path / "a.mp4", [*noise(3), *noise(2, 32, 32)], 25.0)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_the_frames_so_far(tmp_path):
    def frames():
        yield from noise(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", frames(), 25.0)
    assert num_frames(tmp_path / "a.mp4") == 4


def test_a_bug_leaves_no_video(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_video(tmp_path / "a.mp4", (1 // (len(x) - 64) for x in noise(1)), 25.0)
    assert list(tmp_path.iterdir()) == []


def test_no_frame_is_no_video(tmp_path):
    with pytest.raises(UserError, match="no frame"):
        write_video(tmp_path / "a.mp4", [], 25.0)


def test_names_at_which_opencv_crashes_are_refused(tmp_path):
    with pytest.raises(UserError, match="UTF-8"):
        Video(f"{tmp_path}/\udcfe.mp4")
    with pytest.raises(UserError, match="UTF-8"):
        write_video(tmp_path / "\udcfe" / "a.mp4", noise(1), 25.0)


def test_a_file_without_frames_is_named(tmp_path):
    (tmp_path / "empty.avi").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.avi"):
        Video(str(tmp_path / "empty.avi"))
