from __future__ import annotations

from django.shortcuts import get_object_or_404
from oauth2_provider.contrib.rest_framework import OAuth2Authentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.status import HTTP_201_CREATED
from rest_framework.views import APIView

from banners.models import Banner
from replicant import use_replica


class BannerSerializer(ModelSerializer):
    class Meta:
        model = Banner
        fields = ("id", "title", "text", "colour", "created")
        read_only_fields = ("created",)


class BannersView(APIView):
    """The newest banners, and a new one. Only ``get`` is for replicas; the login before it is the primary's."""

    authentication_classes = (OAuth2Authentication,)
    permission_classes = (IsAuthenticated,)

    @use_replica
    def get(self, request: Request) -> Response:
        return Response(BannerSerializer(Banner.objects.all()[:10], many=True).data)

    def post(self, request: Request) -> Response:
        sent = BannerSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        pk = sent.save(author=request.user).pk
        # Read back: what is answered is what the database made of it.
        saved = get_object_or_404(Banner, pk=pk)
        return Response(BannerSerializer(saved).data, status=HTTP_201_CREATED)
