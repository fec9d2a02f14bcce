import { test, expect } from "appwright";
import { addToCart, id, signIn } from "../support/shop";

test("counts what is added", async ({ device }) => {
  await signIn(device);
  await addToCart(device, "mug");
  await device.getByText("Back to shop").tap();
  await addToCart(device, "tea");
  await device.getById(id("open_cart"), { exact: true }).tap();
  await expect(device.getByText("Items: 2")).toBeVisible();
});

test("can be emptied", async ({ device }) => {
  await signIn(device);
  await addToCart(device, "notebook");
  await device.getById(id("open_cart"), { exact: true }).tap();
  await device.getByText("Empty the cart").tap();
  await expect(device.getByText("Your cart is empty")).toBeVisible();
  await device.getByText("Back to shop").tap();
  await expect(device.getByText("Cart (0)")).toBeVisible();
});
