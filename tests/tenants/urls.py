from django.http import JsonResponse
from django.urls import path

from replicant.tracing import record_queries
from tests.tenants.shops.stock.models import Ware


def wares(request):
    """What the tenant of the request has, and from where that was read."""
    with record_queries() as queries:
        found = list(Ware.objects.order_by("name").values_list("name", flat=True))
    return JsonResponse({"wares": found, "alias": queries[-1].alias, "reason": queries[-1].reason})


urlpatterns = [path("", wares)]
