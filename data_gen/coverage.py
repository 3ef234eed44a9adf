"""How much of the target stays visible: a mask of its pixels, covered bit by bit."""

from PIL import Image, ImageChops, ImageDraw

from mfbayes.data_gen.shapes import POLYGONS


def outline(shape: str, x: float, y: float, radius: float, *, scale: tuple[float, float] = (1, 1)) -> list[float]:
    """Corners [x0, y0, x1, y1, ...] of a shape in px, stretched by `scale` along x and y."""
    corners = (POLYGONS[shape] * radius + (x, y)) * scale
    flat: list[float] = corners.round(3).ravel().tolist()
    return flat


class TargetMask:
    """Pixels of the target, at the canvas's resolution, and which of them are still uncovered.

    Attributes
    ----------
    whole : PIL.Image.Image
        All pixels of the target.
    visible : PIL.Image.Image
        Those not yet covered.
    """

    def __init__(self, shape: str, x: float, y: float, radius: float, canvas: tuple[int, int]) -> None:
        self._canvas = canvas
        self.whole = self._paint(shape, x, y, radius)
        self.visible = self.whole
        self._area = self.whole.histogram()[255]

    def _paint(self, shape: str, x: float, y: float, radius: float) -> Image.Image:
        mask = Image.new("L", self._canvas, 0)
        ImageDraw.Draw(mask).polygon(outline(shape, x, y, radius), fill=255)
        return mask

    @property
    def visible_share(self) -> float:
        """Share of the target's area still uncovered, in [0, 1]."""
        return self.visible.histogram()[255] / self._area

    def overlaps(self, shape: str, x: float, y: float, radius: float) -> bool:
        """Whether a shape shares at least one pixel with the whole target."""
        return ImageChops.darker(self.whole, self._paint(shape, x, y, radius)).getbbox() is not None

    def cover(self, shape: str, x: float, y: float, radius: float, *, at_least: float) -> bool:
        """Cover the target by a shape if `at_least` that share stays visible; says whether it did."""
        left = ImageChops.subtract(self.visible, self._paint(shape, x, y, radius))
        if left.histogram()[255] < at_least * self._area:
            return False
        self.visible = left
        return True
