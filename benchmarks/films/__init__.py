"""What are words worth on real films? The trainings of docs/films.md, and their tables.

python -m benchmarks.films train --root NIH128 --out runs/films_study     trains what is missing, two runs at a time
python -m benchmarks.films tables --root NIH128 --shenzhen SHENZHEN --out runs/films_study
"""
