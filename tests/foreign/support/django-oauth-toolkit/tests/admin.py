from django.contrib.admin import ModelAdmin


class CustomApplicationAdmin(ModelAdmin):
    pass


class CustomAccessTokenAdmin(ModelAdmin):
    pass


class CustomGrantAdmin(ModelAdmin):
    pass


class CustomIDTokenAdmin(ModelAdmin):
    pass


class CustomRefreshTokenAdmin(ModelAdmin):
    pass
