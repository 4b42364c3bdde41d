"""Pictures: thumbnails in sRGB, BlurHash.

Pure, synchronous functions on bytes, made to run in the sandbox: the bytes are a stranger's, and a decoder may be
broken by them. Whatever is wrong with a picture is `Rejected` with its reason; any other exception is a defect of ours.

Importing the package loads all that it will ever need, except pillow_heif: in the sandbox no file can be opened any
more.
"""

import PIL.Image
import PIL.ImageOps  # this and the next, as the plugins of preinit(), Pillow imports as late as it can
import PIL.TiffImagePlugin

from avion_media.media.image.blurhash import blurhash, is_blurhash
from avion_media.media.image.thumbnails import Thumbnails, make_thumbnails, thumbnails_of_frame

PIL.Image.preinit()

__all__ = ["Thumbnails", "blurhash", "is_blurhash", "make_thumbnails", "thumbnails_of_frame"]
