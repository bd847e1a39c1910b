"""Engine: the site file (TOML). Unknown keys are refused; relative paths start at the file's folder."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orveil.pipeline.errors import OrveilError

__all__ = [
    "AssociateParams", "BlurParams", "Camera", "DetectParams", "DistilParams", "EvaluateParams",
    "EvaluateSettings", "ExportParams", "FinetuneParams", "GuardParams", "ImportWeightsParams",
    "IngestParams", "Params", "PoseParams", "PoseTrainParams", "PseudoLabelParams", "ReportParams",
    "RunSettings", "SiteSettings", "SteadyParams", "TrackParams", "load_site",
]  # fmt: skip


class Params(BaseModel):
    """Base of all settings: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Camera(Params):
    """One camera of one session."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="unique within its session")
    path: Path = Field(description="its video")
    session: str = Field(
        "main",
        pattern=r"^[A-Za-z0-9_-]{1,32}$",
        description="cameras of one session were recorded at the same time",
    )
    offset_s: float | None = Field(None, description="clock offset to the reference camera; None: estimate")


class IngestParams(Params):
    """How media are read."""

    sync: Literal["estimate", "given"] = Field(
        "estimate", description="clock offsets: estimated from the videos, or those given per camera"
    )
    max_offset_s: float = Field(0.5, ge=0, le=10, description="largest clock offset looked for, s")
    max_frames: int = Field(0, ge=0, description="use only the first frames of each camera; 0: all")


class ImportWeightsParams(Params):
    """Weights from outside, by content: names and digests, never paths."""

    kind: Literal["detector", "pose"]
    name: str = Field(description="registry name or file name, for reports")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the weights file")
    config_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the resolved config")
    long_side: int = Field(0, ge=0, description="longer picture side at the detector's input, px")


class DetectParams(Params):
    """Candidates at a low threshold."""

    long_side: int = Field(
        512, ge=128, le=2048, description="longer picture side at the detector's input, px"
    )
    score_threshold: float = Field(0.1, gt=0, lt=1, description="candidates below it are dropped")
    nms_iou: float = Field(0.65, gt=0, le=1, description="of two boxes that overlap more, the weaker goes")
    max_per_image: int = Field(100, ge=1, description="candidates kept per frame")
    chunk_frames: int = Field(2000, ge=1, description="frames per shard")


class MotionParams(Params):
    """What differs from the usual picture of a camera."""

    least_difference: float = Field(
        12.0,
        gt=0,
        le=255,
        description="in any colour, of 255, averaged over a cell; what differs less is the usual picture",
    )


class TrackParams(Params):
    """Tracking within a camera; times in seconds, so that the frame rate does not matter."""

    high_score: float = Field(0.5, gt=0, lt=1, description="boxes that may start a track")
    low_score: float = Field(0.1, gt=0, lt=1, description="boxes that may continue one")
    max_gap_s: float = Field(1.0, gt=0, description="longest gap that a track bridges, s")
    min_iou: float = Field(
        0.3, ge=0, lt=1, description="least overlap of a box with where its track is expected"
    )


class AssociateParams(Params):
    """Self-supervised, uncalibrated matching across cameras."""

    min_probability: float = Field(0.8, gt=0, lt=1, description="below it a track stays unmatched")
    epochs: int = Field(60, ge=1, description="of training the matcher")
    max_frames: int = Field(600, ge=10, description="synchronised frames used for training")


class PseudoLabelParams(Params):
    """From evidence to labels."""

    false_discovery_rate: float = Field(
        0.05, gt=0, lt=1, description="share of wrong boxes accepted among positive labels"
    )
    ignore_from: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="doubtful boxes from this probability are ignored, below they are background: what the "
        "student should show must not be taught as background",
    )
    min_side_px: float = Field(12.0, ge=1, description="smaller boxes are no labels")
    frames: int = Field(240, ge=8, description="training frames to choose over all cameras")
    holdout: float = Field(
        0.15, ge=0, lt=0.5, description="share of the chosen frames that judge a round instead of training it"
    )
    round: int = Field(1, ge=1, description="set by the pipeline: which round these labels belong to")


class FinetuneParams(Params):
    """One round of detector training."""

    iterations: int = Field(120, ge=1, description="training steps")
    batch_size: int = Field(8, ge=1, description="pictures per step")
    learning_rate: float = Field(4e-4, gt=0, description="highest; falls along a cosine")
    long_side: int = Field(512, ge=128, description="longer picture side in training, px")
    checkpoint_every: int = Field(
        40, ge=1, description="steps between checkpoints, from which a killed run goes on"
    )
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="of the moving average of the weights, which is the result; 0: none"
    )
    anchor: float = Field(0.0, ge=0, description="pull towards the starting weights (L2-SP)")
    paste: float = Field(
        0.6,
        ge=0,
        le=1,
        description="probability that people cut out of other frames of the camera are put in front of those "
        "in a training picture, which teaches what covered people look like; 0: never, for cameras that move",
    )
    workers: int = Field(
        1,
        ge=1,
        exclude_if=lambda workers: workers == 1,
        description="processes, on as many CPUs or GPUs, that share each step's pictures; the result is the "
        "same but for rounding",
    )

    @model_validator(mode="after")
    def _enough_pictures(self) -> FinetuneParams:
        if self.workers > self.batch_size:
            raise ValueError(f"{self.workers} workers cannot share a batch of {self.batch_size} pictures")
        return self


class SteadyParams(Params):
    """Which boxes teach: those that a second look bears out and in which something moves."""

    least: float = Field(
        0.4,
        ge=0,
        le=1,
        description="least overlap with what the second look finds, times its score; 0: every box teaches",
    )
    most_boxes: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of a camera's boxes that may teach, the steadiest first: an adapted detector is "
        "surer in both looks, and its boxes are not that much better",
    )
    least_motion: float = Field(
        0.06,
        ge=0,
        le=1,
        description="least share of a box that differs from the camera's median picture; 0: what never moves "
        "teaches too",
    )
    zoom: float = Field(1.25, gt=0.25, le=4, description="size of the second look, against `long_side`")
    long_side: int = Field(
        512, ge=128, description="set by the pipeline: longer picture side at the first look, px"
    )


class GuardParams(Params):
    """When a round is rolled back; agreement is in [0, 1]."""

    may_lose: float = Field(0.0, ge=0, le=1, description="agreement that a round may lose on average")
    camera_may_lose: float = Field(0.05, ge=0, le=1, description="agreement that it may lose on one camera")


class PoseParams(Params):
    """Whole-body keypoints, head and face boxes."""

    scope: Literal["train", "all"] = Field(
        "all", description="set by the pipeline: labels of the training frames, or all"
    )
    min_keypoint_score: float = Field(0.2, ge=0, le=1, description="keypoints below it do not count")
    batch_size: int = Field(32, ge=1, description="persons per step")


class PoseTrainParams(Params):
    """Fine-tuning of the pose model on its own confident keypoints."""

    iterations: int = Field(80, ge=0, description="training steps; 0 keeps the pose model")
    batch_size: int = Field(32, ge=1, description="persons per step")
    learning_rate: float = Field(2e-4, gt=0, description="highest; falls along a cosine")
    min_keypoint_score: float = Field(0.5, ge=0, le=1, description="keypoints below it are not learned from")
    checkpoint_every: int = Field(40, ge=1, description="steps between checkpoints")


class DistilParams(Params):
    """The real-time student."""

    model: str = Field("embedded-detector", description="registry name of the student, or path of weights")
    config: str | None = Field(None, description="mmengine config of the student; needed with a path")
    iterations: int = Field(150, ge=1, description="training steps")
    batch_size: int = Field(8, ge=1, description="pictures per step")
    learning_rate: float = Field(6e-4, gt=0, description="highest; falls along a cosine")
    long_side: int = Field(
        416, ge=128, description="longer picture side at the student's input, px; also on the appliance"
    )
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")
    soft_weight: float = Field(0.5, ge=0, description="weight of the teacher's soft outputs")


class ExportParams(Params):
    """The ONNX bundle."""

    score_floor: float = Field(0.05, gt=0, lt=1, description="boxes below it never leave the graph")
    nms_iou: float = Field(0.65, gt=0, le=1, description="of two boxes that overlap more, the weaker goes")
    max_per_image: int = Field(100, ge=1, description="boxes kept per frame")
    max_box_error_px: float = Field(
        0.1, gt=0, description="gate: largest difference between ONNX and PyTorch boxes, px"
    )
    max_score_error: float = Field(1e-3, gt=0, description="gate: largest difference of scores")
    max_recall_drop: float = Field(0.005, ge=0, description="gate: largest loss of recall on held-out frames")
    min_recall: float = Field(
        0.5, ge=0, le=1, description="gate: least share of labelled persons that the student must find"
    )
    miss_cost: float = Field(
        30.0, gt=0, description="needless boxes that one missed person outweighs, when a threshold is chosen"
    )
    int8: bool | Literal["auto"] = Field(
        False,
        description="a second model in 8-bit integers: true = the appliance runs it; auto = only where it "
        "loses no recall and is faster here (measured, so another machine may decide otherwise)",
    )


class BlurParams(Params):
    """What is covered and how."""

    target: Literal["face", "head", "body"] = Field("head", description="what is covered")
    style: Literal["gaussian", "mosaic", "solid"] = Field("gaussian", description="how")
    shape: Literal["ellipse", "box"] = Field("ellipse", description="of each covered place")
    margin: float = Field(
        0.15, ge=0, le=1, description="growth of a box on each side, as a share of its size"
    )
    every: int = Field(1, ge=1, description="run the detector on every n-th frame")
    hold_s: float = Field(0.5, ge=0, description="bridge gaps and hold tracks for this long")
    audio: Literal["keep", "drop"] = Field("drop", description="voices identify people too")
    crf: int = Field(20, ge=0, le=51, description="H.264 quality; lower is better and larger")
    preset: str = Field("veryfast", description="of the x264 encoder")


class EvaluateSettings(Params):
    """Only where ground truth exists; nothing but evaluation reads it."""

    ground_truth: Path | None = Field(None, description="COCO file, .json or .json.gz")


class EvaluateParams(Params):
    """Operating points and overlaps of the before/after table."""

    ground_truth_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the ground-truth file")
    detector_score: float = Field(0.5, ge=0, le=1, description="operating point of the detectors")
    body_iou: float = Field(0.5, gt=0, le=1)
    head_iou: float = Field(0.3, gt=0, le=1)
    face_iou: float = Field(0.3, gt=0, le=1)
    covered: float = Field(0.9, gt=0, le=1, description="share of a face's pixels that counts as covered")


class ReportParams(Params):
    """The report."""

    title: str = Field("", description="empty: the site's name")
    pictures: bool = Field(False, description="frames of the blurred videos under the boxes")


class RunSettings(Params):
    """How to run; none of it changes a result."""

    executor: Literal["local", "ray"] = Field("local", description="in this process, or on a Ray cluster")
    workers: int = Field(1, ge=1, description="CPUs of the Ray cluster started here")
    address: str | None = Field(None, description="Ray cluster address; None starts a local one")


class SiteSettings(Params):
    """A whole site file."""

    name: str = Field(min_length=1, max_length=64, description="shown in the report")
    work: Path = Field(Path("work"), description="folder for everything the run makes")
    videos: Path | None = Field(None, description="folder with one video per camera; else list [[camera]]")
    camera: tuple[Camera, ...] = ()
    seed: int = Field(0, ge=0, description="same seed and inputs: same results")
    rounds: int = Field(2, ge=0, le=20, description="rounds of labelling and fine-tuning")
    detector: str = Field("embedded-detector", description="registry name, or path of weights")
    detector_config: str | None = Field(None, description="mmengine config, where the weights are a path")
    pose_model: str = Field("embedded-pose", description="registry name, or path of weights")
    pose_config: str | None = Field(None, description="mmengine config, where the weights are a path")
    ingest: IngestParams = IngestParams()
    motion: MotionParams = MotionParams()
    detect: DetectParams = DetectParams()
    track: TrackParams = TrackParams()
    associate: AssociateParams = AssociateParams()
    pseudolabel: PseudoLabelParams = PseudoLabelParams()
    steady: SteadyParams = SteadyParams()
    finetune: FinetuneParams = FinetuneParams()
    guard: GuardParams = GuardParams()
    pose: PoseParams = PoseParams()
    pose_train: PoseTrainParams = PoseTrainParams()
    distil: DistilParams = DistilParams()
    export: ExportParams = ExportParams()
    blur: BlurParams = BlurParams()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportParams = ReportParams()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _one_source(self) -> SiteSettings:
        if (self.videos is None) == (not self.camera):
            raise ValueError('give either `videos = "FOLDER"` or a list of [[camera]], not both or none')
        keys = [(c.session, c.id) for c in self.camera]
        if len(keys) != len(set(keys)):
            raise ValueError("two [[camera]] entries have the same session and id")
        return self


def load_site(path: Path) -> SiteSettings:
    """Read and check a site file; every relative path in it becomes absolute.

    Raises:
        OrveilError: missing file, bad TOML, unknown key, wrong type or value, each with its key.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise OrveilError("there is no such site file", where=str(path), remedy="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise OrveilError(f"the site file is not valid TOML: {error}", where=str(path)) from error
    try:
        site = SiteSettings.model_validate(raw)
    except ValidationError as error:
        raise OrveilError(
            "the site file is wrong: " + "; ".join(_problem(e) for e in error.errors()),
            where=str(path),
            remedy="docs/site-file.md lists every key with its default and range",
        ) from error
    return _absolute(site, path.resolve().parent)


def _problem(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "extra_forbidden":
        return f"unknown key `{key}`"
    return f"`{key}`: {error['msg']}"


def _absolute(site: SiteSettings, base: Path) -> SiteSettings:
    truth = site.evaluate.ground_truth
    return site.model_copy(
        update={
            "work": base / site.work,
            "videos": base / site.videos if site.videos else None,
            "camera": tuple(c.model_copy(update={"path": base / c.path}) for c in site.camera),
            "evaluate": EvaluateSettings(ground_truth=base / truth if truth else None),
            "distil": site.distil.model_copy(
                update={
                    "model": _maybe_path(site.distil.model, base),
                    "config": _maybe_path(site.distil.config, base),
                }
            ),
            "detector": _maybe_path(site.detector, base),
            "detector_config": _maybe_path(site.detector_config, base),
            "pose_model": _maybe_path(site.pose_model, base),
            "pose_config": _maybe_path(site.pose_config, base),
        }
    )


def _maybe_path(value: str | None, base: Path) -> Any:
    """Registry names have no dot and no slash; everything else is a path."""
    return str(base / value) if value and ("/" in value or "." in value) else value
