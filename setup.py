"""Packaging; the settings of development tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="ctr-kd",
    version="0.2.0",
    description="Distils a BERT over click histories into a student that meets a serving budget, from raw log to scores",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["feature_store*", "ctr_kd*", "pipelines*"]),
    package_data={"feature_store": ["sql/*/*.sql"], "ctr_kd": ["report/templates/*.*", "report/templates/*/*.html"]},
    entry_points={"console_scripts": ["ctr-kd = pipelines.cli.main:main"]},
    install_requires=[
        "torch>=2.13",
        "safetensors>=0.8",
        "numpy>=2",
        "pandas>=3",
        "pyarrow>=25",
        "scikit-learn>=1.9",
        "mlflow>=3.17",
        "faiss-cpu>=1.15",
        "pyyaml>=6",
        "duckdb>=2",
        "onnx>=1.23",
        "onnxruntime>=1.31",
        "pydantic>=2.14",
        "click>=8.5",
        "rich>=15",
        "jinja2>=3.1",
        "jieba>=0.42.1",
    ],
    extras_require={
        "test": [
            "pytest>=9",
            "pytest-xdist>=3.8",
            "hypothesis>=6.170",
            "transformers>=5",
            "tokenizers>=0.23",
            "ruff>=0.17",
            "mypy>=2.4",
            "import-linter>=2.17",
            "types-PyYAML",
            "pandas-stubs",
        ],
        "browser": ["pytest>=9", "selenium>=4.51"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.8", "mkdocstrings[python]>=1.0"],
        "spark": ["pyspark>=4.3"],
        "system-metrics": ["psutil>=6"],
        "postgresql": ["psycopg[binary]>=3.2"],
        "airflow": ["apache-airflow>=3.3", "apache-airflow-providers-standard>=1.21"],
        "peers": ["transformers>=5", "torch-rechub>=0.9,<0.10"],
    },
)
