"""Inside the tensor landing: fusion, schedules, packing."""
