"""Files that make a cluster carry out a plan: Kubernetes manifests and launch scripts."""

from planner.deploy.errors import DeployError
from planner.deploy.k8s import kubernetes_bundle
from planner.deploy.launch import launch_files
from planner.deploy.target import Program, Sizing, Target

__all__ = ["DeployError", "Program", "Sizing", "Target", "kubernetes_bundle", "launch_files"]
