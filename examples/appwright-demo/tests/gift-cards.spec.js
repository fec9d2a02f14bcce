import { test, expect } from "appwright";
import { signIn } from "../support/shop";

test.skip(true, "Gift cards come with 1.6.0");

test("a gift card pays for an order", async ({ device }) => {
  await signIn(device);
  await device.getByText("Gift cards").tap();
  await expect(device.getByText("Enter the code")).toBeVisible();
});

test("a used gift card is refused", async ({ device }) => {
  await signIn(device);
  await device.getByText("Gift cards").tap();
  await expect(device.getByText("This card has been used")).toBeVisible();
});
