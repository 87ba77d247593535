"""Numbers of parameters worked out by hand from the networks' equations: what is counted in them is compared with."""

from scaling.models.config import ModelConfig


def by_hand(config: ModelConfig, num_elements: int) -> tuple[int, int, int]:
    """Parameters of the embedding, of the backbone besides, and of the heads."""
    families = {"egnn": _egnn, "dimenetpp": _dimenetpp, "gemnet_t": _gemnet_t}
    return families[config.name](config.sized(), num_elements)


def _egnn(config, num_elements):
    F, R, L = config.width, config.num_radial, config.depth
    # a layer: what atoms give, features of edges, second layer, sum, update; moved and move in all layers but one
    backbone = L * (3 * F * F + 3 * F + R * F + F * F + F + F * F + F * F + F) + 2 * (L - 1) * F
    head = F * F + F + F
    if config.forces == "direct":
        head += 2 * F * F + 2 * F + R * F + F
    return num_elements * F, backbone, head


def _dimenetpp(config, num_elements):
    F, R, L, S, T, Q = (
        *(config.width, config.num_radial, config.depth),
        *(config.num_spherical, config.triplet_width, config.output_width),
    )
    B, output_layers = 8, 3
    dense = F * F + F
    first = R * F + F + 2 * F * F + dense
    layer = 9 * dense + R * B + B * F + F * T + B * S * R + T * B + T * F
    head = R * F + F * Q + output_layers * (Q * Q + Q) + Q
    if config.forces == "direct":
        head += R * F + dense + F
    return num_elements * F, first + L * layer, (L + 1) * head


def _gemnet_t(config, num_elements):
    F, R, L, S, T, A, B = (
        *(config.width, config.num_radial, config.depth),
        *(config.num_spherical, config.triplet_width, config.node_width, config.bilinear_width),
    )
    C, residual = 16, 2 * 3
    first = 2 * A * F + R * F + (3 + S) * R * C
    atoms = C * F + F * A + residual * A * A
    layer = 11 * F * F + C * F + F * T + C * T * B + 2 * B * F + atoms + 2 * A * F
    head = atoms + A
    if config.forces == "direct":
        head += C * F + (1 + residual) * F * F + F
    return num_elements * A, first + L * layer, (L + 1) * head
