"""Reports: the HTML page, plain tables for the terminal, machine pictures, traces."""

from planner.report.bundle import bundle_files, write_folder
from planner.report.causes import simulation_summary
from planner.report.explain import explanation, shadow_table
from planner.report.page import render_report
from planner.report.request_table import request_table
from planner.report.summary import Summary, Table, plan_summary, summary_json
from planner.report.topology_view import topology_svg, topology_text
from planner.report.trace import chrome_trace

__all__ = [
    "Summary",
    "Table",
    "bundle_files",
    "chrome_trace",
    "explanation",
    "plan_summary",
    "render_report",
    "request_table",
    "shadow_table",
    "simulation_summary",
    "summary_json",
    "topology_svg",
    "topology_text",
    "write_folder",
]
