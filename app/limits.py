"""The limits of the settings, for those who keep them and for those who are told of them."""

from app.api.schemas import FullLimitsBody
from app.decoding.decoder import FORMATS
from app.http.body import BodyLimits
from app.inference.admission import most_in_background
from app.settings import Settings


def limits_body(settings: Settings, workers: int) -> FullLimitsBody:
    """What clients and operators are told of the limits."""
    return FullLimitsBody(
        max_picture_bytes=settings.max_image_bytes,
        max_picture_pixels=settings.max_image_pixels,
        max_pictures_per_request=settings.max_images_per_request,
        max_request_bytes=settings.max_request_bytes,
        request_timeout_s=settings.request_timeout_s,
        max_batch_size=settings.max_batch_size,
        queue_capacity=settings.queue_capacity,
        formats=list(FORMATS),
        upload_memory_bytes=settings.upload_memory_bytes,
        decode_memory_bytes=settings.decode_memory_bytes,
        max_connections=settings.max_connections,
        workers=workers,
    )


def shared_limits(settings: Settings) -> dict[str, int]:
    """What all workers share the limits of, by the names that metrics have for it."""
    return {
        "images": settings.queue_capacity,
        "background": most_in_background(settings.queue_capacity),
        "upload_bytes": settings.upload_memory_bytes,
        "decode_bytes": settings.decode_memory_bytes,
        "connections": settings.max_connections,
    }


def body_limits(settings: Settings) -> BodyLimits:
    """What a request body is held to."""
    return BodyLimits(
        max_image_bytes=settings.max_image_bytes,
        max_request_bytes=settings.max_request_bytes,
        max_images=settings.max_images_per_request,
        timeout_s=settings.body_timeout_s,
    )
