"""The tags that may be left: dimensions, encoding, colour, orientation, animation. All others are leaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ALLOWED = """
ExifTool: ExifToolVersion
File: FileType FileTypeExtension MIMEType ImageWidth ImageHeight ExifByteOrder
    EncodingProcess BitsPerSample ColorComponents YCbCrSubSampling
Composite: ImageSize Megapixels AvgBitrate
JFIF: JFIFVersion ResolutionUnit XResolution YResolution
Adobe: DCTEncodeVersion APP14Flags0 APP14Flags1 ColorTransform
IFD0: Orientation
PNG: ImageWidth ImageHeight BitDepth ColorType Compression Filter Interlace AnimationFrames AnimationPlays
    BackgroundColor Palette Transparency SignificantBits Gamma WhitePointX WhitePointY RedX RedY GreenX GreenY
    BlueX BlueY ProfileName SRGBRendering
PNG-pHYs: PixelsPerUnitX PixelsPerUnitY PixelUnits
PNG-cICP: ColorPrimaries TransferCharacteristics MatrixCoefficients VideoFullRangeFlag
GIF: GIFVersion ImageWidth ImageHeight HasColorMap ColorResolutionDepth BitsPerPixel BackgroundColor
    AnimationIterations FrameCount Duration TransparentColor PixelAspectRatio
RIFF: ImageWidth ImageHeight WebP_Flags VP8Version HorizontalScale VerticalScale
    AlphaIsUsed AlphaPreprocessing AlphaFiltering AlphaCompression
    AnimationLoopCount BackgroundColor FrameCount Duration
Meta: PrimaryItemReference MetaImageSize
QuickTime: MajorBrand MinorVersion CompatibleBrands HandlerType ImageSpatialExtent ImagePixelDepth Rotation Unknown_imir
    AuxiliaryImageType CleanAperture MaxContentLightLevel MaxPicAverageLightLevel MediaData MediaDataSize
    MediaDataOffset ColorProfiles ColorPrimaries TransferCharacteristics MatrixCoefficients VideoFullRangeFlag
    AV1ConfigurationVersion SeqProfile SeqLevelIdx0 SeqTier0 HighBitDepth TwelveBit ChromaFormat ChromaSamplePosition
    InitialDelaySamples HEVCConfigurationVersion GeneralProfileSpace GeneralTierFlag GeneralProfileIDC
    GenProfileCompatibilityFlags ConstraintIndicatorFlags GeneralLevelIDC MinSpatialSegmentationIDC ParallelismType
    BitDepthLuma BitDepthChroma AverageFrameRate ConstantFrameRate NumTemporalLayers TemporalIDNested
    MovieHeaderVersion CreateDate ModifyDate TimeScale Duration PreferredRate PreferredVolume MatrixStructure
    PreviewTime PreviewDuration PosterTime SelectionTime SelectionDuration CurrentTime NextTrackID
Track: TrackHeaderVersion TrackCreateDate TrackModifyDate TrackID TrackDuration TrackLayer TrackVolume MatrixStructure
    ImageWidth ImageHeight MediaHeaderVersion MediaCreateDate MediaModifyDate MediaTimeScale MediaDuration
    MediaLanguageCode HandlerType GraphicsMode OpColor OtherFormat
    TimeToSampleTable SampleToChunk SampleSizes ChunkOffset SyncSampleTable
    Unknown_auxl Unknown_edts Unknown_av1C Unknown_hvcC Unknown_colr Unknown_ccst Unknown_auxi
ICC-header: ProfileVersion ProfileClass ColorSpaceData ProfileConnectionSpace ProfileFileSignature CMMFlags
    DeviceAttributes RenderingIntent ConnectionSpaceIlluminant
ICC_Profile: MediaWhitePoint MediaBlackPoint Luminance ChromaticAdaptation RedMatrixColumn GreenMatrixColumn
    BlueMatrixColumn RedTRC GreenTRC BlueTRC GrayTRC
    AToB0 AToB1 AToB2 BToA0 BToA1 BToA2 Gamut
"""
# There, but empty.
_EMPTY = {
    "ProfileCMMType": "",
    "DeviceManufacturer": "",
    "DeviceModel": "",
    "ProfileCreator": "",
    "ProfileDescription": "",
    "ProfileCopyright": "",
    "ProfileDateTime": "2000:01:01 00:00:00",
    "PrimaryPlatform": "Unknown ()",
    "ProfileID": 0,
}
# The mark of Adobe RGB.
_MARKS = {"ExifIFD:ColorSpace": "Uncalibrated", "InteropIFD:InteropIndex": "R03 - DCF option file (Adobe RGB)"}

_NO_DATE = "0000:00:00 00:00:00"
_NO_PROFILE_NAME = "icc"


def _parse(text: str) -> frozenset[str]:
    names = []
    group = ""
    for word in text.split():
        if word.endswith(":"):
            group = word
        else:
            names.append(group + word)
    return frozenset(names)


_NAMES = _parse(_ALLOWED)


def leaks(tags: Mapping[str, Any]) -> dict[str, Any]:
    """The tags (of one file, as exiftool gives them) that should not be there."""
    return {name: value for name, value in tags.items() if not _is_allowed(name, value)}


def _is_allowed(name: str, value: object) -> bool:
    if name == "SourceFile" or name.startswith("System:"):
        return True
    if name.endswith("Date"):
        return value == _NO_DATE
    if name.endswith(":Unknown_free"):  # what was private in an animation's moov, zeroed in place
        return value == ""
    if name.startswith("ICC") and (tag := name.partition(":")[2]) in _EMPTY:
        return value == _EMPTY[tag]
    if name in _MARKS:
        return value == _MARKS[name]
    if name == "PNG:ProfileName":
        return value == _NO_PROFILE_NAME
    return re.sub(r"^Track\d+:", "Track:", name) in _NAMES
