"""A model of the API server: would it take a document, and if not, why not."""

from planner.deploy.apiserver.check import Checker, problems_of
from planner.deploy.apiserver.schemas import Schemas, read_schemas

__all__ = ["Checker", "Schemas", "problems_of", "read_schemas"]
