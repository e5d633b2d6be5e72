"""The picture in a request of Starlette's: for the frameworks that stand on it."""

from starlette.datastructures import UploadFile
from starlette.requests import Request


async def read_image(request: Request) -> bytes:
    """The multipart field `file`, or the whole body. Raises ValueError where the field is missing."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form() as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ValueError(f"The form has the fields {list(form)}; expected a file in the field 'file'.")  # noqa: TRY004
        return await file.read()
