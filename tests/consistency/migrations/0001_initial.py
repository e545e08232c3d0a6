from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Register",
            fields=[
                ("name", models.CharField(max_length=10, primary_key=True, serialize=False)),
                ("value", models.BigIntegerField()),
            ],
        ),
    ]
