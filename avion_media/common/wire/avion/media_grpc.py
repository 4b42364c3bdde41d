# ruff: noqa
# fmt: off
# mypy: ignore-errors
from trio_grpc.wire import purerpc
from trio_grpc.service import Cardinality, RPCSignature, Service, Servicer
import avion_media.common.wire.avion.media_pb2 as avion_dot_media__pb2
import google.protobuf.timestamp_pb2 as google_dot_protobuf_dot_timestamp__pb2
import google.protobuf.duration_pb2 as google_dot_protobuf_dot_duration__pb2


class MediaServiceServicer(Servicer):
    async def RequestMediaUpload(self, request, context):
        raise NotImplementedError()

    async def CompleteMediaUpload(self, request, context):
        raise NotImplementedError()

    async def CacheRemoteMedia(self, request, context):
        raise NotImplementedError()

    async def GetMediaStatus(self, request, context):
        raise NotImplementedError()

    async def WatchMediaStatus(self, request, context):
        raise NotImplementedError()

    async def SignUploadParts(self, request, context):
        raise NotImplementedError()

    async def AbortMediaUpload(self, request, context):
        raise NotImplementedError()

    async def GetUsage(self, request, context):
        raise NotImplementedError()

    async def ListOwnerMedia(self, request, context):
        raise NotImplementedError()

    async def BlockMedia(self, request, context):
        raise NotImplementedError()

    async def UnblockMedia(self, request, context):
        raise NotImplementedError()

    async def GetCapabilities(self, request, context):
        raise NotImplementedError()

    @property
    def service(self) -> Service:
        service_obj = Service(
            "avion.MediaService"
        )
        service_obj.add_method(
            "RequestMediaUpload",
            self.RequestMediaUpload,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.RequestMediaUploadRequest,
                avion_dot_media__pb2.RequestMediaUploadResponse,
            )
        )
        service_obj.add_method(
            "CompleteMediaUpload",
            self.CompleteMediaUpload,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.CompleteMediaUploadRequest,
                avion_dot_media__pb2.CompleteMediaUploadResponse,
            )
        )
        service_obj.add_method(
            "CacheRemoteMedia",
            self.CacheRemoteMedia,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.CacheRemoteMediaRequest,
                avion_dot_media__pb2.CacheRemoteMediaResponse,
            )
        )
        service_obj.add_method(
            "GetMediaStatus",
            self.GetMediaStatus,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.GetMediaStatusRequest,
                avion_dot_media__pb2.MediaStatus,
            )
        )
        service_obj.add_method(
            "WatchMediaStatus",
            self.WatchMediaStatus,
            RPCSignature(
                Cardinality.UNARY_STREAM,
                avion_dot_media__pb2.GetMediaStatusRequest,
                avion_dot_media__pb2.MediaStatus,
            )
        )
        service_obj.add_method(
            "SignUploadParts",
            self.SignUploadParts,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.SignUploadPartsRequest,
                avion_dot_media__pb2.SignUploadPartsResponse,
            )
        )
        service_obj.add_method(
            "AbortMediaUpload",
            self.AbortMediaUpload,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.AbortMediaUploadRequest,
                avion_dot_media__pb2.AbortMediaUploadResponse,
            )
        )
        service_obj.add_method(
            "GetUsage",
            self.GetUsage,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.GetUsageRequest,
                avion_dot_media__pb2.GetUsageResponse,
            )
        )
        service_obj.add_method(
            "ListOwnerMedia",
            self.ListOwnerMedia,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.ListOwnerMediaRequest,
                avion_dot_media__pb2.ListOwnerMediaResponse,
            )
        )
        service_obj.add_method(
            "BlockMedia",
            self.BlockMedia,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.BlockMediaRequest,
                avion_dot_media__pb2.BlockMediaResponse,
            )
        )
        service_obj.add_method(
            "UnblockMedia",
            self.UnblockMedia,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.UnblockMediaRequest,
                avion_dot_media__pb2.UnblockMediaResponse,
            )
        )
        service_obj.add_method(
            "GetCapabilities",
            self.GetCapabilities,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.GetCapabilitiesRequest,
                avion_dot_media__pb2.Capabilities,
            )
        )
        return service_obj


class MediaServiceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "avion.MediaService",
            channel
        )
        self.RequestMediaUpload = self._client.get_method_stub(
            "RequestMediaUpload",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.RequestMediaUploadRequest,
                avion_dot_media__pb2.RequestMediaUploadResponse,
            )
        )
        self.CompleteMediaUpload = self._client.get_method_stub(
            "CompleteMediaUpload",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.CompleteMediaUploadRequest,
                avion_dot_media__pb2.CompleteMediaUploadResponse,
            )
        )
        self.CacheRemoteMedia = self._client.get_method_stub(
            "CacheRemoteMedia",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.CacheRemoteMediaRequest,
                avion_dot_media__pb2.CacheRemoteMediaResponse,
            )
        )
        self.GetMediaStatus = self._client.get_method_stub(
            "GetMediaStatus",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.GetMediaStatusRequest,
                avion_dot_media__pb2.MediaStatus,
            )
        )
        self.WatchMediaStatus = self._client.get_method_stub(
            "WatchMediaStatus",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                avion_dot_media__pb2.GetMediaStatusRequest,
                avion_dot_media__pb2.MediaStatus,
            )
        )
        self.SignUploadParts = self._client.get_method_stub(
            "SignUploadParts",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.SignUploadPartsRequest,
                avion_dot_media__pb2.SignUploadPartsResponse,
            )
        )
        self.AbortMediaUpload = self._client.get_method_stub(
            "AbortMediaUpload",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.AbortMediaUploadRequest,
                avion_dot_media__pb2.AbortMediaUploadResponse,
            )
        )
        self.GetUsage = self._client.get_method_stub(
            "GetUsage",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.GetUsageRequest,
                avion_dot_media__pb2.GetUsageResponse,
            )
        )
        self.ListOwnerMedia = self._client.get_method_stub(
            "ListOwnerMedia",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.ListOwnerMediaRequest,
                avion_dot_media__pb2.ListOwnerMediaResponse,
            )
        )
        self.BlockMedia = self._client.get_method_stub(
            "BlockMedia",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.BlockMediaRequest,
                avion_dot_media__pb2.BlockMediaResponse,
            )
        )
        self.UnblockMedia = self._client.get_method_stub(
            "UnblockMedia",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.UnblockMediaRequest,
                avion_dot_media__pb2.UnblockMediaResponse,
            )
        )
        self.GetCapabilities = self._client.get_method_stub(
            "GetCapabilities",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                avion_dot_media__pb2.GetCapabilitiesRequest,
                avion_dot_media__pb2.Capabilities,
            )
        )
