import { test, expect } from "appwright";
import { addToCart, id, signIn } from "../support/shop";

for (const payment of ["card", "invoice"]) {
  test(`an order paid by ${payment} is confirmed`, async ({ device }) => {
    await signIn(device);
    await addToCart(device, "mug");
    await device.getById(id("open_cart"), { exact: true }).tap();
    await device.getByText("Checkout").tap();
    await device.getById(id("street"), { exact: true }).fill("12 St James's Square");
    await device.getById(id("city"), { exact: true }).fill("London");
    await device.getByText("Continue to payment").tap();
    await device.getById(id(payment), { exact: true }).tap();
    await expect(device.getByText("To 12 St James's Square, London")).toBeVisible();
    await expect(device.getByText(`Paid by ${payment}`)).toBeVisible();
    await device.getByText("Place order").tap();
    await expect(device.getByText("Thank you, Ada")).toBeVisible();
    await expect(device.getByText("Order number 1")).toBeVisible();
  });
}
