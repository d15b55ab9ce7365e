// CartPole-v1 (Barto, Sutton & Anderson 1983), as Gymnasium steps it: Euler steps of 0.02 seconds.

const CART = {
  gravity: 9.8,
  cart: 1.0,
  pole: 0.1,
  half: 0.5,
  force: 10,
  tau: 0.02,
  reach: 2.4,
  tilt: (12 * 2 * Math.PI) / 360,
  most: 500,
};

function cartStep([x, speed, angle, turn], action) {
  const { gravity, cart, pole, half, tau } = CART,
    total = cart + pole;
  const force = action === 1 ? CART.force : -CART.force,
    cos = Math.cos(angle),
    sin = Math.sin(angle);
  const pushed = (force + pole * half * turn * turn * sin) / total;
  const spin = (gravity * sin - cos * pushed) / (half * (4 / 3 - (pole * cos * cos) / total));
  const pull = pushed - (pole * half * spin * cos) / total;
  return [x + tau * speed, speed + tau * pull, angle + tau * turn, turn + tau * spin];
}

function cartFell([x, , angle]) {
  return Math.abs(x) > CART.reach || Math.abs(angle) > CART.tilt;
}

function cartStart() {
  return Array.from({ length: 4 }, () => Math.random() * 0.1 - 0.05);
}

// The cart, its pole, and an arrow for the push.
function drawCart(svg, [x, , angle], action) {
  const at = 200 + (x / CART.reach) * 190,
    [u, v] = [at + 90 * Math.sin(angle), 104 - 90 * Math.cos(angle)];
  const arrow =
    action === undefined
      ? []
      : [
          svgElement("path", {
            class: "push",
            d: action === 1 ? `M${at - 58} 116h22m-8 -6l8 6l-8 6` : `M${at + 58} 116h-22m8 -6l-8 6l8 6`,
          }),
        ];
  replaceChildren(
    svg,
    svgElement("line", { x1: 5, y1: 130, x2: 395, y2: 130, class: "track" }),
    svgElement("rect", { x: at - 28, y: 104, width: 56, height: 26, rx: 3, class: "cart" }),
    svgElement("line", { x1: at, y1: 104, x2: u, y2: v, class: "pole" }),
    svgElement("circle", { cx: at, cy: 104, r: 4, class: "axle" }),
    arrow,
  );
}
