"""Measuring kernels one by one, and searching better schedules for them than the cost model's."""
