//! Shared by the suites: a world of registries, images and a gate, and the checks that every client must pass.

mod gate;
pub(crate) mod hostile;
mod image;
mod paper;
mod process;
mod registry;
mod world;

pub(crate) use gate::{Gate, GateConfig, program};
pub(crate) use image::{Image, PAYLOAD, file_of_layer, file_of_tar};
pub(crate) use paper::{Machine, blocks};
pub(crate) use process::{Daemon, Finished, Program};
pub(crate) use registry::{Registry, Variant};
pub(crate) use world::{Client, DOCKER_HUB, FALLBACK_PATH, Setup, World, assert_reason};

/// The name of the upstream in policies and for path-style clients.
pub(crate) const UPSTREAM: &str = "registry.test";
