import { test, expect } from "appwright";
import { addToCart, id, signIn } from "../support/shop";

test("an order is counted in the profile", async ({ device }) => {
  await signIn(device);
  await addToCart(device, "tea");
  await device.getById(id("open_cart"), { exact: true }).tap();
  await device.getByText("Checkout").tap();
  await device.getByText("Continue to payment").tap();
  await device.getById(id("card"), { exact: true }).tap();
  await device.getByText("Place order").tap();
  await device.getByText("Back to shop").tap();
  await device.getByText("Profile").tap();
  await expect(device.getByText("Orders: 1")).toBeVisible();
});
